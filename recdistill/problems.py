"""What a user has to mend: one line per problem, each with where, what was wanted, what was found and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


class BadInput(ValueError):
    """Bad config or data. The command line prints `problems`, a line each, and ends with status 2."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


def problem(where: str, *, wanted: str, found: str, remedy: str) -> str:
    """One readable line.

    >>> problem("a.yaml: seed", wanted="a whole number", found="'x'", remedy="write seed: 0")
    "a.yaml: seed: wanted a whole number, found 'x'; write seed: 0"
    """
    return f"{where}: wanted {wanted}, found {found}; {remedy}"


def guess(name: str, known: Sequence[str]) -> str | None:
    """A remedy for a misspelt name; None where nothing is close.

    >>> guess("widht", ["depth", "width"])
    'did you mean width?'
    """
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else None

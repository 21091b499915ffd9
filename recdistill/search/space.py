"""What a search may choose: widths, towers, what is beside them, kinds of tables, bits; as settings of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Trial

from recdistill.config.run import Run
from recdistill.types import Layout

_LARGE = 1000  # rows from which a table may be hashed or composed
_WIDTHS = (2, 4, 8, 16)
_TOWERS = ("16", "32-16", "64-32", "128-64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Choices by name, the run's own values among them. large: tables that may be made smaller."""

    widths: tuple[int, ...]
    towers: tuple[str, ...]
    interactions: tuple[str, ...]
    precisions: tuple[str, ...]
    kinds: tuple[str, ...]
    large: tuple[str, ...]
    rows: dict[str, int]

    def sample(self, trial: Trial) -> dict[str, Any]:
        """One choice of each, by the trial."""
        return {
            "width": trial.suggest_categorical("width", self.widths),
            "tower": trial.suggest_categorical("tower", self.towers),
            "interaction": trial.suggest_categorical("interaction", self.interactions),
            "quantise": trial.suggest_categorical("quantise", self.precisions),
            "kind": trial.suggest_categorical("kind", self.kinds),
        }


def space_of(run: Run, layout: Layout) -> Space:
    """What may be chosen for this run and its tables."""
    large = tuple(name for name, rows in layout.tables.items() if rows >= _LARGE)
    return Space(
        widths=tuple(sorted({*_WIDTHS, run.student.width})),
        towers=tuple(dict.fromkeys([*_TOWERS, spelled(run.student.tower)])),
        interactions=("mlp", "dcn", "fm"),
        precisions=("none", "int8", "int4"),
        kinds=("plain", "hashed", "quotient_remainder") if large else ("plain",),
        large=large,
        rows={name: layout.tables[name] for name in large},
    )


def spelled(tower: Sequence[int]) -> str:
    """A tower as one word.

    >>> spelled([64, 32])
    '64-32'
    """
    return "-".join(map(str, tower))


def first_choice(run: Run, space: Space) -> dict[str, Any] | None:
    """The run's own student, to be tried first; None where it is outside the space."""
    own = run.student
    if own.interaction.use not in space.interactions or own.tables or own.table.needs_counts:
        return None
    kind = own.table.kind if own.table.kind in space.kinds else "plain"
    choice = {"width": own.width, "tower": spelled(own.tower), "interaction": own.interaction.use}
    return {**choice, "quantise": own.table.quantise or run.export.quantise, "kind": kind}


def settings(run: Run, space: Space, choice: dict[str, Any]) -> dict[str, Any]:
    """The run as a tree with the choice made: what a YAML would hold. Hashed tables have a quarter of their rows."""
    tree = run.model_dump(mode="json", exclude_unset=True)
    made: dict[str, Any] = {"kind": choice["kind"]}
    tables = {
        name: {**made, **({"rows": max(3, space.rows[name] // 4)} if choice["kind"] == "hashed" else {})}
        for name in space.large
        if choice["kind"] != "plain"
    }
    student = {
        **tree.get("student", {}),
        "width": choice["width"],
        "tower": [int(size) for size in choice["tower"].split("-") if size],
        "interaction": {"use": choice["interaction"]},
        "tables": {**tree.get("student", {}).get("tables", {}), **tables},
    }
    return {**tree, "student": student, "export": {**tree.get("export", {}), "quantise": choice["quantise"]}}

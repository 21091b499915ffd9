"""The promotion log as a file, a line an entry: what a machine has seen of it, for when MLflow is away or changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from recdistill.problems import BadInput, problem

COPY = "promotions.jsonl"


def read_copy(path: Path) -> list[str]:
    """The entries, oldest first; none where there is no such file."""
    return path.read_text().splitlines() if path.is_file() else []


def write_copy(path: Path, entries: Sequence[str]) -> None:
    """Keep the entries, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with temporary.open("w") as file:
        file.write("".join(f"{entry}\n" for entry in entries))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def check_goes_on(where: str, seen: Sequence[str], entries: Sequence[str], path: Path) -> None:
    """BadInput where a log does not go on from the entries that this machine has seen of it."""
    if list(entries[: len(seen)]) != list(seen):
        found = f"{len(entries)} entries that do not go on from the {len(seen)} in {path}"
        remedy = "find out who changed it or put an old store back; remove the file if the store is right"
        raise BadInput(problem(where, wanted="the log that was here before", found=found, remedy=remedy))

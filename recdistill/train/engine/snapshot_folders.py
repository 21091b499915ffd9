"""Which folders of snapshots belong to what: how two trainings differ, and which snapshots a finished step leaves."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recdistill import files

SNAPSHOTS = "snapshots"  # below the run's folder
FOLLOWED = "snapshots.json"


def differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """What differs between two JSON values, a line each.

    >>> differences({"seed": 1, "teacher": {"width": 8}}, {"seed": 1, "teacher": {"width": 4}})
    ['teacher.width is 8, not 4']
    """
    if not (isinstance(found, dict) and isinstance(wanted, dict)):
        return [] if found == wanted else [f"{where} is {found}, not {wanted}"]
    names = list(dict.fromkeys([*found, *wanted]))
    parts = (differences(found.get(n), wanted.get(n), f"{where}.{n}" if where else n) for n in names)
    return [line for part in parts for line in part]


def follow(out: Path, names: Sequence[str]) -> None:
    """Note in the folder of a step which folders of snapshots it was made by, so that they go when it is finished."""
    files.write_json(out / FOLLOWED, sorted(names))


def forget(run_folder: Path, finished: Path) -> None:
    """Remove the snapshots that a finished step was made by."""
    root = run_folder / SNAPSHOTS
    if root.is_dir() and (finished / FOLLOWED).is_file():
        for name in files.read_json(finished / FOLLOWED):
            if (root / name).is_dir():
                remove(root / name)
        if not any(root.iterdir()):
            root.rmdir()


def remove(path: Path) -> None:
    """Remove a folder, so that a kill on the way leaves nothing that looks whole."""
    gone = path.rename(path.with_name(f".unfinished-gone-{path.name}"))
    shutil.rmtree(gone)

"""What an earlier run's teacher and student say of the rows they share with this run, by row number."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recdistill.config.run import Run
from recdistill.data.scores import open_scores
from recdistill.data.split import SPLITS
from recdistill.data.store import open_rows
from recdistill.distil.facts import RowLogits
from recdistill.files import manifest, read_json
from recdistill.problems import BadInput, problem
from recdistill.train.predict import load_weights, predict
from recdistill.train.students.shape import trained_student

STUDENTS, LOG = "students.json", "log.json"


def earlier(run: Run, folder: Path, now: Path) -> dict[str, RowLogits]:
    """previous_teacher and previous_student: logits of all windows of the run in `folder`, each by its own encoder.

    The student is the one that shipped, made as this run says. now: the prepare folder whose numbers the rows get, file
    by file; files that changed have no earlier logits. BadInput where there is no such finished run, its student is
    another one, or no file is in both logs.
    """
    prepared, scored, distilled = (newest(folder, step) for step in ("prepare", "score", "distil"))
    device = torch.device("cpu")
    layout = open_rows(prepared, "train").layout
    counts = load_weights(distilled, "counts.safetensors")
    name = f"student-{read_json(distilled / STUDENTS)['shipped']}.safetensors"
    student = None
    if counts.keys() >= set(run.student.counted(layout.tables)):
        with suppress(RuntimeError):  # of weights in other shapes
            student = trained_student(run, layout, counts, load_weights(distilled, name))
    if student is None:
        wanted, remedy = "a student of the shape that this run describes", "name a run with the same student section"
        raise BadInput(problem(f"recipe.previous: {folder}", wanted=wanted, found="another", remedy=remedy))
    parts: dict[str, list[Any]] = {"row_id": [], "teacher": [], "student": []}
    for split in SPLITS:
        rows = open_rows(prepared, split)
        parts["row_id"].append(np.asarray(rows["row_id"]))
        parts["teacher"].append(open_scores(scored, split, rows, prepared).logit)
        parts["student"].append(predict(student, rows, device))
    row_id = renumbered(np.concatenate(parts["row_id"]), read_json(prepared / LOG), read_json(now / LOG))
    kept = row_id >= 0
    if not kept.any():
        where, wanted = f"recipe.previous: {folder}", "a run whose log shares files with this one's"
        raise BadInput(problem(where, wanted=wanted, found="none", remedy="name such a run, or use another recipe"))
    return {
        f"previous_{model}": by_row(row_id[kept], np.concatenate(parts[model])[kept])
        for model in ("teacher", "student")
    }


def renumbered(row_id: NDArray[np.int64], before: Mapping[str, Any], now: Mapping[str, Any]) -> NDArray[np.int64]:
    """[n] the rows' numbers in another listing of the log's files; -1 where that lacks the file, byte for byte.

    >>> one, other = ({"name": name, "sha256": name, "num_rows": rows} for name, rows in (("a", 2), ("b", 3)))
    >>> renumbered(np.array([1, 2, 4]), {"files": [one, other]}, {"files": [other]}).tolist()
    [-1, 0, 2]
    """
    rows = {name: np.array([file["num_rows"] for file in log["files"]]) for name, log in (("was", before), ("is", now))}
    first = {name: np.concatenate([[0], np.cumsum(num)]).astype(np.int64) for name, num in rows.items()}
    place = {(file["name"], file["sha256"]): number for number, file in enumerate(now["files"])}
    new = np.array([place.get((file["name"], file["sha256"]), -1) for file in before["files"]])
    file = np.searchsorted(first["was"], row_id, side="right") - 1
    moved = row_id - first["was"][file] + first["is"][new[file]]
    return np.where(new[file] < 0, -1, moved).astype(np.int64)


def by_row(row_id: NDArray[np.int64], logit: NDArray[np.float32]) -> RowLogits:
    """Logits in any order, to be looked up by row."""
    order = np.argsort(row_id, kind="stable")
    return RowLogits(row_id=torch.from_numpy(row_id[order]), logit=torch.from_numpy(np.ascontiguousarray(logit[order])))


def newest(folder: Path, step: str, setting: str = "recipe.previous") -> Path:
    """The folder of a step that a run, which `setting` names, finished last. BadInput where there is none."""
    finished = [path for path in folder.glob(f"{step}-*") if manifest(path) is not None]
    if not finished:
        where, wanted = f"{setting}: {folder}", f"a run with a finished {step} step"
        raise BadInput(problem(where, wanted=wanted, found="none", remedy="name the folder of such a run"))
    return max(finished, key=lambda path: (path / "_manifest.json").stat().st_mtime)

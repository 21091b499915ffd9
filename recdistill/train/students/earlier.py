"""What an earlier run's teacher and student say of the rows they share with this run, by row number."""

from __future__ import annotations

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

STUDENTS = "students.json"


def earlier(run: Run, folder: Path) -> dict[str, RowLogits]:
    """previous_teacher and previous_student: logits of all windows of the run in `folder`, each by its own encoder.

    The student is the one that shipped, made as this run says. The rows' numbers must mean the same rows: a log that
    was only added to. BadInput where there is no such finished run or its student is another one.
    """
    prepared, scored, distilled = (newest(folder, step) for step in ("prepare", "score", "distil"))
    device = torch.device("cpu")
    layout = open_rows(prepared, "train").layout
    counts = load_weights(distilled, "counts.safetensors")
    name = f"student-{read_json(distilled / STUDENTS)['shipped']}.safetensors"
    try:
        student = trained_student(run, layout, counts, load_weights(distilled, name))
    except RuntimeError:
        wanted, remedy = "a student of the shape that this run describes", "name a run with the same student section"
        raise BadInput(problem(f"recipe.previous: {folder}", wanted=wanted, found="another", remedy=remedy)) from None
    parts: dict[str, list[Any]] = {"row_id": [], "teacher": [], "student": []}
    for split in SPLITS:
        rows = open_rows(prepared, split)
        parts["row_id"].append(np.asarray(rows["row_id"]))
        parts["teacher"].append(open_scores(scored, split, rows, prepared).logit)
        parts["student"].append(predict(student, rows, device))
    return {
        "previous_teacher": by_row(np.concatenate(parts["row_id"]), np.concatenate(parts["teacher"])),
        "previous_student": by_row(np.concatenate(parts["row_id"]), np.concatenate(parts["student"])),
    }


def by_row(row_id: NDArray[np.int64], logit: NDArray[np.float32]) -> RowLogits:
    """Logits in any order, to be looked up by row."""
    order = np.argsort(row_id, kind="stable")
    return RowLogits(row_id=torch.from_numpy(row_id[order]), logit=torch.from_numpy(np.ascontiguousarray(logit[order])))


def newest(folder: Path, step: str) -> Path:
    """The folder of a step that a run finished last. BadInput where there is none."""
    finished = [path for path in folder.glob(f"{step}-*") if manifest(path) is not None]
    if not finished:
        where, wanted = f"recipe.previous: {folder}", f"a run with a finished {step} step"
        raise BadInput(problem(where, wanted=wanted, found="none", remedy="name the folder of such a run"))
    return max(finished, key=lambda path: (path / "_manifest.json").stat().st_mtime)

"""One row at every stage: raw, encoded, the teacher's logit, the student's in torch and in the bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recdistill.bundle import open_bundle
from recdistill.config.run import Run
from recdistill.data.admit import dropped_rows
from recdistill.data.encoder import Encoder
from recdistill.data.prepare import open_checked
from recdistill.data.requests import raw_requests
from recdistill.data.scores import open_scores
from recdistill.data.split import SPLITS
from recdistill.data.store import Rows, open_rows
from recdistill.files import read_json
from recdistill.pipeline import run_all
from recdistill.problems import BadInput, problem
from recdistill.train.students.student import open_student


def trace_row(run: Run, row_id: int) -> dict[str, Any]:
    """What the finished run makes of one row of its log. BadInput for a row that is not in the data window."""
    folders = run_all(run, until="export").folders
    encoder = Encoder.open(folders["prepare"] / "encoder")
    window, rows, place = _find(encoder, folders["prepare"], row_id)
    dropped = dropped_rows(folders["prepare"])
    requests = raw_requests(run, open_checked(run), np.array([row_id]), dropped, encoder)
    shipped = read_json(folders["export"] / "export.json")["shipped"]
    arm, number = shipped.split("-")
    student = open_student(run, encoder.layout, folders["distil"], arm, int(number))
    index = np.array([place])
    with torch.inference_mode():
        torch_logit = student(torch.from_numpy(rows.ids(index)), torch.from_numpy(rows.dense(index))).logit
    ids = rows.ids(index)[0]
    scores = open_scores(folders["score"], window, rows, folders["prepare"])
    return {
        "row_id": row_id,
        "window": window,
        "raw": requests.to_pylist()[0],
        "label": float(rows["label"][place]),
        "ids": {feature.name: ids[feature.columns].tolist() for feature in encoder.layout.ids},
        "dense": dict(zip(encoder.layout.dense, rows.dense(index)[0].tolist(), strict=True)),
        "teacher_logit": float(scores.logit[place]),
        "student": shipped,
        "student_logit_torch": float(torch_logit[0]),
        "student_logit_bundle": float(open_bundle(folders["export"] / shipped).score(requests)[0]),
    }


def _find(encoder: Encoder, prepared: Any, row_id: int) -> tuple[str, Rows, int]:
    for window in SPLITS:
        rows = open_rows(prepared, window, encoder.layout)
        found = np.flatnonzero(rows["row_id"] == row_id)
        if len(found):
            return window, rows, int(found[0])
    remedy = "give the number of a row of the log, from 0 on"
    raise BadInput(problem(f"row {row_id}", wanted="a row of the data window", found="none", remedy=remedy))

"""The score step: the teacher's logits of every window in Arrow, keyed by row_id, with whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from recdistill.config import Run
from recdistill.data.scores import write_scores
from recdistill.data.split import SPLITS
from recdistill.data.store import open_rows
from recdistill.files import manifest, read_json
from recdistill.problems import BadInput, problem
from recdistill.train.device import choose_device, pin_threads
from recdistill.train.predict import predict
from recdistill.train.progress import logger
from recdistill.train.teacher import open_teacher


def score(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write SPLIT.arrow for every window: row_id int64, logit float32; metadata: teacher, data and encoder digests."""
    pin_threads(run.threads)
    about = _about(inputs)
    windows = {name: open_rows(inputs["prepare"], name) for name in SPLITS}
    with open_teacher(run, windows["train"].layout, inputs["train_teacher"]) as teacher:
        for name, rows in windows.items():
            logit = predict(teacher, rows, choose_device(run.device))
            if not np.isfinite(logit).all():
                found = f"{int((~np.isfinite(logit)).sum())} that are not"
                remedy = "lower the teacher's learning rates"
                raise BadInput(problem(f"teacher: {name} window", wanted="finite scores", found=found, remedy=remedy))
            write_scores(out / f"{name}.arrow", rows, logit, about)
    logger.info("score: %s rows of the teacher's scores stored", f"{sum(map(len, windows.values())):,}")


def _about(inputs: Mapping[str, Path]) -> dict[str, str]:
    data = read_json(inputs["prepare"] / "data.json")
    teacher = manifest(inputs["train_teacher"])
    assert teacher is not None
    return {"teacher": teacher["key"], "fingerprint": data["fingerprint"], "encoder": data["encoder"]}

"""One training of a comparison in a process of its own: python -m recdistill.compare.worker TASK.json."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import numpy as np

from recdistill.compare.arms import LOGITS, RESULT, Arm
from recdistill.config.run import Run
from recdistill.data.store import open_rows
from recdistill.files import read_json, whole_folder, write_json
from recdistill.problems import BadInput
from recdistill.train.device import choose_device, ready_process
from recdistill.train.predict import predict
from recdistill.train.progress import logger
from recdistill.train.students.look_ups import look_ups
from recdistill.train.students.shape import AS_DESCRIBED, trained_student
from recdistill.train.students.student import fit_student


def work(arm: Arm, seed: int, inputs: dict[str, Path], final: Path) -> None:
    """Train, score the test window, write logits.npy and result.json under `final`, whole or not at all."""
    ready_process(arm.run.threads)
    began = time.perf_counter()
    trained = fit_student(arm.run, inputs, arm.run.recipe, seed, arm=arm.kind)
    seconds = time.perf_counter() - began
    train, test = (open_rows(inputs["prepare"], name) for name in ("train", "test"))
    device = choose_device(arm.run.device)
    shape = arm.run.recipe.student if arm.kind == "student" else AS_DESCRIBED
    counts = look_ups(train, arm.run.student.counted(train.layout.tables))
    model = trained_student(arm.run, train.layout, counts, trained.weights, shape)
    logit = predict(model.to(device), test, device)
    with whole_folder(final, {"arm": arm.name, "seed": seed}) as out:
        np.save(out / LOGITS, logit, allow_pickle=False)
        about = {
            "valid_auc": trained.best.valid_auc,
            "seconds_per_epoch": seconds / max(trained.curve[-1].epoch, 1e-9),
            "parameters": sum(v.numel() for v in trained.weights.values() if v.is_floating_point()),
        }
        write_json(out / RESULT, about)


def main() -> None:
    """Exit status 2 with the problems on standard error for a recipe that cannot run here."""
    task = read_json(Path(sys.argv[1]))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    arm = Arm(name=task["name"], kind=task["kind"], run=Run.model_validate(task["run"]))
    inputs = {name: Path(folder) for name, folder in task["inputs"].items()}
    try:
        work(arm, task["seed"], inputs, Path(task["out"]))
    except BadInput as error:
        logger.error("\n".join(error.problems))
        sys.exit(2)


if __name__ == "__main__":
    main()

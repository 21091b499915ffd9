"""One training of a comparison in a process of its own: python -m recdistill.compare.worker TASK.json."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.compare.arms import LOGITS, RESULT, Arm
from recdistill.compare.pairs import train_pairs
from recdistill.config.run import Run
from recdistill.data.store import open_rows
from recdistill.files import read_json, whole_folder, write_json
from recdistill.problems import BadInput
from recdistill.train.device import choose_device, ready_process
from recdistill.train.engine.course import Trained
from recdistill.train.predict import predict
from recdistill.train.students.look_ups import look_ups
from recdistill.train.students.shape import AS_DESCRIBED, trained_student
from recdistill.train.students.student import Arm as Kind
from recdistill.train.students.student import fit_student


def work(arm: Arm, seed: int, inputs: dict[str, Path], final: Path) -> None:
    """Train, score the test window, write logits.npy and result.json under `final`, whole or not at all."""
    ready_process(arm.run.threads)
    clock = time.process_time if choose_device(arm.run.device).type == "cpu" else time.perf_counter
    began = clock()
    trained, judged = (_rows if arm.run.data.pairs is None else train_pairs)(arm.run, inputs, seed, arm.kind)
    seconds = clock() - began  # of the processor, as others of the comparison run beside it
    with whole_folder(final, {"arm": arm.name, "seed": seed}) as out:
        np.save(out / LOGITS, judged, allow_pickle=False)
        about = {
            "valid_auc": trained.best.valid_auc,
            "seconds_per_epoch": seconds / (trained.curve[-1].epoch or 1.0),  # a student may be ready as it begins
            "parameters": sum(v.numel() for v in trained.weights.values() if v.is_floating_point()),
        }
        write_json(out / RESULT, about)


def _rows(run: Run, inputs: Mapping[str, Path], seed: int, kind: Kind) -> tuple[Trained, NDArray[Any]]:
    """A student, and its logits of the test window."""
    trained = fit_student(run, inputs, run.recipe, seed, arm=kind)
    train, test = (open_rows(inputs["prepare"], name) for name in ("train", "test"))
    device = choose_device(run.device)
    shape = run.recipe.student if kind == "student" else AS_DESCRIBED
    counts = look_ups(train, run.student.counted(train.layout.tables))
    model = trained_student(run, train.layout, counts, trained.weights, shape)
    return trained, predict(model.to(device), test, device)


def main() -> None:
    """Exit status 2 with the problems on standard output, alone there, for a recipe that cannot run here."""
    task = read_json(Path(sys.argv[1]))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    arm = Arm(name=task["name"], kind=task["kind"], run=Run.model_validate(task["run"]))
    inputs = {name: Path(folder) for name, folder in task["inputs"].items()}
    try:
        work(arm, task["seed"], inputs, Path(task["out"]))
    except BadInput as error:
        sys.stdout.write("\n".join(error.problems))
        sys.exit(2)


if __name__ == "__main__":
    main()

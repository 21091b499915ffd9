"""Trainings of a comparison, each in a process of its own, and the reason of one that was refused."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recdistill import files
from recdistill.compare.arms import Task
from recdistill.train.progress import logger


def train_all(tasks: Sequence[Task], inputs: Mapping[str, Path], processes: int) -> dict[str, str]:
    """Every training, so many at a time; name -> why, of arms that were refused."""
    refused: dict[str, str] = {}

    def one(number: int, task: Task) -> None:
        name = task.arm.name
        if name in refused:
            return
        why = train_one(task, inputs)
        if why is not None:
            refused[name] = why
        logger.info("compare: %d of %d, %s, seed %d%s", number, len(tasks), name, task.seed, f": {why}" if why else "")

    with ThreadPoolExecutor(processes) as pool:
        for done in [pool.submit(one, number, task) for number, task in enumerate(tasks, 1)]:
            done.result()
    return refused


def train_one(task: Task, inputs: Mapping[str, Path]) -> str | None:
    """None where it went well; else the first problem that the process found, or the last thing that it said."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.json"
        files.write_json(path, task.to_json(inputs))
        command = [sys.executable, "-m", "recdistill.compare.worker", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    if done.returncode == 2 and (problems := done.stdout.strip().splitlines()):
        return problems[0]
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]

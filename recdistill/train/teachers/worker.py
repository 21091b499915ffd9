"""One process of a job that `launch` started: its own part of the work, and its end when nobody waits for it."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recdistill.config.run import Run
from recdistill.files import read_json, write_json
from recdistill.problems import BadInput
from recdistill.train.device import choose_device, ready_process
from recdistill.train.progress import logger
from recdistill.train.teachers.launch import LAUNCHER, is_alive, named, problems_of
from recdistill.train.teachers.shard import World, world

Body = Callable[[Run, Mapping[str, Path], Path, World], None]
_LOOK_S = 0.5


def work(body: Body) -> None:
    """Do this rank's part of the job whose file is the last argument. Every rank calls body; only rank 0 speaks.

    What BadInput says is left for the launcher, and no process begins again after it.
    """
    job = Path(sys.argv[-1])
    about = read_json(job)
    problems = problems_of(job)
    if problems.is_file() or os.environ.get(LAUNCHER, named(about["launcher"])) != named(about["launcher"]):
        return
    _end_with(about["launcher"])
    logging.basicConfig(format="%(message)s")
    logger.setLevel(about["level"] if os.environ["RANK"] == "0" else logging.WARNING)
    run = Run.model_validate(about["run"])
    inputs = {name: Path(path) for name, path in about["inputs"].items()}
    ready_process(run.threads)
    try:
        with world(choose_device(run.device)) as here:
            body(run, inputs, Path(about["out"]), here)
    except BadInput as error:
        write_json(problems, error.problems)


def _end_with(launcher: Mapping[str, Any]) -> None:
    """End this process when its torchrun has died or, on the launcher's host, the launcher has."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and (os.uname().nodename != launcher["host"] or is_alive(launcher)):
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

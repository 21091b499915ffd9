"""Curves in MLflow while they grow: every check goes to disk, and from there to the server when it answers."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.config.run import Run
from recdistill.problems import BadInput
from recdistill.promotion.registry import may_answer_later
from recdistill.tracking.deliver import deliver
from recdistill.tracking.early import session
from recdistill.tracking.spool import Spool
from recdistill.train.progress import curves, logger

if TYPE_CHECKING:
    from recdistill.train.engine.course import Check

_EVERY_S = 2.0
_LAST_WAIT_S = 20.0
"""How long the end of a run waits for the last points: what is not delivered then waits on disk."""


@contextmanager
def watched(run: Run) -> Iterator[None]:
    """While it is entered, checks of training are shown in MLflow; a server that is away delays them and nothing else.

    Only with a tracking server: a store in a file has the curves when the run is published. Trainings in processes of
    their own are shown then, too.
    """
    if not run.registry.tracking_uri.startswith(("http:", "https:")):
        yield
        return
    handler = _ToSpool(run)
    curves.addHandler(handler)
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        curves.removeHandler(handler)
        handler.finish(status)


class _ToSpool(logging.Handler):
    """A check -> an entry: `student 0` is seed_0 of the child `student`, as in the record of the finished run."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.watched, self.spool = run, Spool(folder=Path(run.folder))
        self.postman: _Postman | None = None  # where nothing is trained there is nothing to deliver

    def emit(self, record: logging.LogRecord) -> None:
        if self.postman is None:
            self.spool.append({"begin": session(self.watched).to_json()})
            self.postman = _Postman(self.spool.folder)
            self.postman.start()
        check: Check = record.__dict__["check"]
        child, _, number = record.getMessage().partition(" ")
        prefix = f"seed_{number}." if child in ("student", "control") else f"member_{number}." if number else ""
        values = {**check.losses, "valid_auc": check.valid_auc, "rows_per_s": check.rows_per_s}
        metrics = {f"{prefix}{name}": value for name, value in values.items() if math.isfinite(value)}
        entry: dict[str, Any] = {"child": child, "at": int(record.created * 1000), "step": check.step}
        self.spool.append({**entry, "metrics": metrics})

    def finish(self, status: str) -> None:
        """The session's end, and what is left of it delivered where that can be."""
        if self.postman is not None:
            self.spool.append({"end": status})
            self.postman.finish()
        self.spool.clear()


class _Postman(threading.Thread):
    """Delivers every other second; a daemon, so that a call that hangs does not keep the process."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="curves", daemon=True)
        self.folder, self.ending, self.is_away = folder, threading.Event(), False

    def run(self) -> None:
        while not self.ending.wait(_EVERY_S):
            self._deliver()
        self._deliver()

    def _deliver(self) -> None:
        try:
            deliver(self.folder)
        except BadInput as error:
            self._away(error)
        except Exception as error:  # whatever the server answers, training goes on
            if not may_answer_later(error):
                logger.exception("curves: not foreseen")
            self._away(error)
        else:
            if self.is_away:
                logger.info("curves: the tracking server is back and has them all")
            self.is_away = False

    def _away(self, error: Exception) -> None:
        if not self.is_away:
            logger.warning("curves: they wait in %s: %s", self.folder, str(error).splitlines()[0][:200])
        self.is_away = True

    def finish(self) -> None:
        """Deliver what is left, for a while."""
        self.ending.set()
        self.join(_LAST_WAIT_S)
        if self.is_alive() or self.is_away:
            logger.warning("curves: what the tracking server does not have waits in %s", self.folder)

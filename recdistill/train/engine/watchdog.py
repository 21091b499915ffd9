"""Ends a job whose training stands still, all stacks written down first."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from recdistill.train.progress import logger


class Watchdog:
    """While it is entered, the process dies by SIGABRT where `beat` was not called for timeout_s seconds.

    path: the file that the stacks of all threads are added to, at that moment; None watches nothing. Were Python itself
    stuck, holding its lock, they go to standard error after twice the time, from a thread that needs no lock.
    """

    def __init__(self, path: Path | None, timeout_s: float) -> None:
        self.path, self.timeout_s = path, timeout_s
        self._last = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self) -> None:
        """Say that something was done."""
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        self.beat()
        if self.path is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.path is not None:
            self._ended.set()
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self.timeout_s / 4)):
            faulthandler.dump_traceback_later(2 * self.timeout_s, exit=True, file=sys.__stderr__ or sys.stderr)
            if time.monotonic() - self._last > self.timeout_s:
                self._end()

    def _end(self) -> None:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            faulthandler.dump_traceback(file=file, all_threads=True)
        logger.error("no step ended within %g s: the stacks are in %s", self.timeout_s, self.path)
        os.kill(os.getpid(), signal.SIGABRT)

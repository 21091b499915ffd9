"""Ends a job whose training stands still, all stacks written down first."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from recdistill.train.progress import logger


class Watchdog:
    """While it is entered, the process dies by SIGABRT where `beat` was not called for timeout_s seconds.

    path: the file for the stacks of all threads; it exists only after such an end; None watches nothing. Were Python
    itself stuck, holding its lock, dump and end come after twice the time, from a thread that needs no lock.
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
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w")
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.path is not None:
            self._ended.set()
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()
            self._file.close()
            self.path.unlink()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self.timeout_s / 4)):
            faulthandler.dump_traceback_later(2 * self.timeout_s, exit=True, file=self._file)
            if time.monotonic() - self._last > self.timeout_s:
                faulthandler.dump_traceback(file=self._file, all_threads=True)
                logger.error("no step ended within %g s: the stacks are in %s", self.timeout_s, self.path)
                os.kill(os.getpid(), signal.SIGABRT)

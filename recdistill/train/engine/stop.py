"""SIGTERM while training: the step is finished and a snapshot written before the process goes."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from recdistill.train.engine.guards import LOOK
from recdistill.train.engine.ranks import any_of


class Stop:
    """While it is entered, SIGTERM only leaves a note, which `asked` tells; `go` then does what it would have done.

    In another thread than the main one, where Python takes no signals, nothing changes.
    """

    def __init__(self, world: int = 1) -> None:
        self.world, self._noted = world, False
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Self:
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True

    def asked(self, step: int) -> bool:
        """Whether to stop after this step, on every rank alike; several look every few steps only."""
        return (self.world == 1 or step % LOOK == 0) and any_of(self._noted, self.world)

    def go(self) -> None:
        """Hand SIGTERM to whoever took it before; where that was nobody, end with status 143, as a shell tells it."""
        if callable(self._before):
            self._before(signal.SIGTERM, None)
        raise SystemExit(128 + signal.SIGTERM)

"""A bounded queue in front of the one thread that scores: what does not fit is told so at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

_SLICE_S = 0.001  # of scoring, between two looks at the network: then arrivals are admitted or turned away


class Full(Exception):
    """There is no place; come back later."""


class Queue:
    """Runs jobs one after another on the event loop. idle: runs where nothing waits, as long as it says it has more."""

    def __init__(self, most: int, idle: Callable[[], bool]) -> None:
        self.most, self.idle = most, idle
        self.jobs: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self.awake = False

    async def run(self, job: Callable[[], Any]) -> Any:
        """What the job returns or raises, once it is its turn. Raises Full where too many wait."""
        if len(self.jobs) >= self.most:
            raise Full
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self.jobs.append((job, done))
        self.wake(loop)
        return await done

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop look at the jobs, and at what there is to do when idle."""
        if not self.awake:
            self.awake = True
            loop.call_soon(self._work, loop)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        end = time.perf_counter() + _SLICE_S
        while self.jobs:
            job, done = self.jobs.popleft()
            if not done.cancelled():
                _finish(job, done)
            if time.perf_counter() > end:
                break
        self.awake = bool(self.jobs) or self.idle()
        if self.awake:
            loop.call_soon(self._work, loop)


def _finish(job: Callable[[], Any], done: asyncio.Future[Any]) -> None:
    try:
        done.set_result(job())
    except Exception as error:
        done.set_exception(error)

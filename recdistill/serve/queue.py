"""A bounded queue in front of the one thread that scores: what does not fit is told so at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

_SLICE_S = 0.001  # of scoring at least, between two looks at the network: then arrivals are admitted or turned away


class Full(Exception):
    """There is no place; come back later."""


class Queue:
    """Runs jobs one after another on the event loop. idle: runs where nothing waits, as long as it says it has more.

    Jobs get as long as the loop took for all else since they last ran, so that turning many away, which takes longer
    than a slice, does not starve those that were let in.
    """

    def __init__(self, most: int, idle: Callable[[], bool]) -> None:
        self.most, self.idle = most, idle
        self.jobs: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self.awake = False
        self.left = 0.0

    @property
    def full(self) -> bool:
        """Whether a job would be turned away."""
        return len(self.jobs) >= self.most

    async def run(self, job: Callable[[], Any]) -> Any:
        """What the job returns or raises, once it is its turn. Raises Full where too many wait."""
        if self.full:
            raise Full
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self.jobs.append((job, done))
        self.wake(loop)
        return await done

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop look at the jobs, and at what there is to do when idle."""
        if not self.awake:
            self.awake, self.left = True, time.perf_counter()
            loop.call_soon(self._work, loop)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        began = time.perf_counter()
        end = began + max(_SLICE_S, began - self.left)
        while self.jobs:
            job, done = self.jobs.popleft()
            if not done.cancelled():
                _finish(job, done)
            if time.perf_counter() > end:
                break
        self.left = time.perf_counter()
        self.awake = bool(self.jobs) or self.idle()
        if self.awake:
            loop.call_soon(self._work, loop)


def _finish(job: Callable[[], Any], done: asyncio.Future[Any]) -> None:
    try:
        done.set_result(job())
    except Exception as error:
        done.set_exception(error)

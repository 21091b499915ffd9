"""Shadow mode: the challenger scores a share of the same requests when nothing waits; nobody sees its answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recdistill.serve.live import Live
from recdistill.serve.metrics import SHADOW_FAILED, SHADOW_GAP, SHADOW_SECONDS, SHADOW_TOP, SHADOWED
from recdistill.serve.scorer import Scorer

Floats = NDArray[np.float32]
Ask = Callable[[Scorer], Floats]
_TOP = 10
_WAITING = 64  # requests that wait for the challenger; under load the oldest are forgotten


class Shadow:
    """share: of the requests, evenly spread."""

    def __init__(self, live: Live, share: float) -> None:
        self.live, self.share = live, share
        self.owed = 0.0
        self.waiting: deque[tuple[Ask, Floats]] = deque(maxlen=_WAITING)

    def offer(self, ask: Ask, scores: Floats) -> None:
        """A request that the champion has answered."""
        if self.live.challenger is None or not len(scores):
            return
        self.owed += self.share
        if self.owed >= 1:
            self.owed -= 1
            self.waiting.append((ask, scores))

    def work(self) -> bool:
        """Score one; whether there are more."""
        challenger = self.live.challenger
        if not self.waiting or challenger is None:
            return False
        ask, scores = self.waiting.popleft()
        began = time.perf_counter()
        try:
            other = ask(challenger.scorer)
        except Exception:  # whatever it is, it is the challenger's, and only counted
            SHADOW_FAILED.inc()
            return bool(self.waiting)
        SHADOW_SECONDS.observe(time.perf_counter() - began)
        SHADOWED.inc()
        SHADOW_GAP.observe(float(np.abs(other - scores).max()))
        SHADOW_TOP.observe(overlap(scores, other))
        return bool(self.waiting)


def overlap(one: Floats, other: Floats, k: int = _TOP) -> float:
    """Share of the k best of one that are among the k best of the other; of all, where there are fewer.

    >>> overlap(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0]), k=2)
    0.5
    """
    k = min(k, len(one))
    best, others = (set(np.argsort(-scores, kind="stable")[:k].tolist()) for scores in (one, other))
    return len(best & others) / k

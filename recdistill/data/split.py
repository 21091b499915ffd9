"""Windows in time: train, valid and test, one after the other, never sharing an instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from recdistill.config.data import Split
from recdistill.config.sections import epoch_us
from recdistill.problems import BadInput, problem

SPLITS = ("train", "valid", "test")
NOWHERE = -1
_BINS = 65_536
_HELD = 4_000_000  # times sorted at once

_BETWEEN = np.array([NOWHERE, 0, NOWHERE, 1, NOWHERE, 2, NOWHERE], dtype=np.int8)  # before, between and after edges

Ints = NDArray[np.int64]
Which = NDArray[np.int8]
Times = Callable[[], Iterable[Ints]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Half-open windows [start, valid), [valid, test), [test, end) in UTC microseconds, each less its embargo's end."""

    start: int
    valid: int
    test: int
    end: int
    embargo: int = 0

    def which(self, time: Ints) -> Which:
        """[n] 0 for train, 1 for valid, 2 for test, -1 for rows under embargo and for those outside."""
        return _BETWEEN[np.searchsorted(self._edges(), time, side="right")]

    def alone(self, low: int, high: int) -> int | None:
        """Where all rows from `low` to `high`, both included, lie; None where they do not lie together."""
        one, other = np.searchsorted(self._edges(), [low, high], side="right")
        return int(_BETWEEN[one]) if one == other else None

    def _edges(self) -> Ints:
        """Ascending: where each window begins and where its embargo does."""
        held = max(self.start, self.valid - self.embargo), max(self.valid, self.test - self.embargo)
        return np.array([self.start, held[0], self.valid, held[1], self.test, self.end], dtype=np.int64)

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def windows(times: Times, split: Split) -> Windows:
    """Cut the rows' times, given in any order and as often as asked for. BadInput for an empty window.

    >>> windows(lambda: [np.array([5, 1, 2, 3]), np.array([3, 3, 4, 9])], Split(train=0.5, valid=0.25))
    Windows(start=1, valid=3, test=5, end=10, embargo=0)
    """
    num, start, latest = _extent(times)
    if not num:
        remedy = "widen data.start and data.end or fill the log"
        raise BadInput(problem("data window", wanted="rows", found="none", remedy=remedy))
    end = latest + 1
    if split.valid_from is not None and split.test_from is not None:
        valid, test = _back(split, split.valid_from), _back(split, split.test_from)
        end = end if split.until is None else min(end, _back(split, split.until))
        start = start if split.train_from is None else max(start, _back(split, split.train_from))
    else:
        shares = (split.train, split.train + split.valid)
        valid, test = (at_rank(times, min(num - 1, _place(num, share))) for share in shares)
    return _not_empty(
        Windows(start=start, valid=valid, test=test, end=end, embargo=split.embargo // timedelta(microseconds=1))
    )


def _extent(times: Times) -> tuple[int, int, int]:
    """How many there are, the earliest and the latest, in one pass; zeros where there are none."""
    seen = [(len(part), int(part.min()), int(part.max())) for part in times() if len(part)]
    return sum(s[0] for s in seen), min((s[1] for s in seen), default=0), max((s[2] for s in seen), default=0)


def _back(split: Split, at: datetime) -> int:
    return epoch_us(at - split.back * split.every)


def _not_empty(cut: Windows) -> Windows:
    ends = (("train", cut.start, cut.valid), ("valid", cut.valid, cut.test), ("test", cut.test, cut.end))
    for name, low, high in ends:
        if low >= high - (0 if name == "test" else cut.embargo):
            remedy = "give more rows or other windows: rows of one instant are never parted"
            raise BadInput(problem(f"data.split: {name} window", wanted="rows", found="none", remedy=remedy))
    return cut


def _place(num_rows: int, share: float) -> int:
    """How many rows a share is, whole: rounded first, because 100 * 0.29 is 28.999999999999996."""
    return int(round(num_rows * share, 6))


def at_rank(times: Times, rank: int) -> int:
    """The time at a 0-based place of the sorted times, in memory that does not grow with their number.

    >>> at_rank(lambda: [np.array([30, 10]), np.array([20, 20])], 2)
    20
    """
    inside, low, high = _extent(times)
    while low < high:
        if inside <= _HELD:
            held = np.concatenate([part[(part >= low) & (part <= high)] for part in times()])
            return int(np.partition(held, rank)[rank])
        width = -(-(high - low + 1) // _BINS)
        counts = np.zeros(_BINS, dtype=np.int64)
        for part in times():
            near = part[(part >= low) & (part <= high)]
            counts += np.bincount((near - low) // width, minlength=_BINS)
        upto = np.cumsum(counts)
        place = int(np.searchsorted(upto, rank, side="right"))
        inside = int(counts[place])
        rank -= int(upto[place - 1]) if place else 0
        low, high = low + place * width, min(high, low + (place + 1) * width - 1)
    return low

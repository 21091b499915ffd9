"""Windows in time: train, valid and test, one after the other, never sharing an instant."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from recdistill.config_data import Split
from recdistill.problems import BadInput, problem

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Half-open windows [start, valid), [valid, test), [test, end) in UTC microseconds."""

    start: int
    valid: int
    test: int
    end: int

    def which(self, time: NDArray[np.int64]) -> NDArray[np.int64]:
        """[n] 0 for train, 1 for valid, 2 for test."""
        return np.searchsorted([self.valid, self.test], time, side="right")

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def windows(time: NDArray[np.int64], split: Split) -> Windows:
    """Cut all rows' times by shares; a boundary falls before every row of its instant. BadInput for an empty window.

    >>> windows(np.array([5, 1, 2, 3, 3, 3, 4, 9]), Split(train=0.5, valid=0.25))
    Windows(start=1, valid=3, test=5, end=10)
    """
    if not len(time):
        raise BadInput(
            problem(
                "data window",
                wanted="rows",
                found="none",
                remedy="widen data.start and data.end or fill the log",
            )
        )
    ordered = np.sort(time)
    num = len(ordered)
    cut = Windows(
        start=int(ordered[0]),
        valid=int(ordered[_place(num, split.train)]),
        test=int(ordered[min(num - 1, _place(num, split.train + split.valid))]),
        end=int(ordered[-1]) + 1,
    )
    for name, low, high in (
        ("train", cut.start, cut.valid),
        ("valid", cut.valid, cut.test),
        ("test", cut.test, cut.end),
    ):
        if low >= high:
            remedy = "give more rows or other shares: rows of one instant are never parted"
            raise BadInput(problem(f"data.split: {name} window", wanted="rows", found="none", remedy=remedy))
    return cut


def _place(num_rows: int, share: float) -> int:
    """How many rows a share is, whole: rounded first, because 100 * 0.29 is 28.999999999999996."""
    return int(round(num_rows * share, 6))

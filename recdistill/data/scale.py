"""Numbers to what a model reads: standardised, of the logarithm, or as the share of the train window below them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
NUM_RANKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """value -> (transform(value) - mean) / deviation, or its rank in -1 to 1; a null becomes 0, which is the middle,
    and so does what has no finite value.

    edges: with transform "rank", the ascending quantiles of the train window.
    """

    column: str
    transform: str
    mean: float = 0.0
    deviation: float = 1.0
    edges: tuple[float, ...] = ()

    def __call__(self, numbers: Numbers) -> NDArray[np.float32]:
        """[n] of float64 with NaN for null.

        >>> Scale(column="x", transform="rank", edges=(1.0, 2.0, 4.0))(np.array([0.5, 2.0, 9.0, np.nan])).tolist()
        [-1.0, 0.3333333432674408, 1.0, 0.0]
        """
        if self.transform == "rank":
            scaled = 2 * np.searchsorted(self.edges, numbers, side="right") / max(len(self.edges), 1) - 1
            scaled[np.isnan(numbers)] = 0.0
        else:
            scaled = (transformed(numbers, self.transform) - self.mean) / self.deviation
            np.copyto(scaled, 0.0, where=~np.isfinite(scaled))
        return scaled.astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        about: dict[str, Any] = {"column": self.column, "transform": self.transform}
        return about | {"mean": self.mean, "deviation": self.deviation, "edges": list(self.edges)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Scale:
        return Scale(**{**value, "edges": tuple(value["edges"])})


def transformed(numbers: Numbers, transform: str) -> Numbers:
    """log(1 + x) for log1p, x itself otherwise."""
    return np.log1p(numbers) if transform == "log1p" else numbers


class Moments:
    """Mean and deviation of a stream (Chan et al. 1979, pairwise update); nulls are left out."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, numbers: Numbers) -> None:
        """[n] float64, NaN for null."""
        missing = np.isnan(numbers)
        if missing.any():
            numbers = numbers[~missing]
        if not len(numbers):
            return
        count, mean = len(numbers), float(numbers.mean())
        total, gap = self.count + count, mean - self.mean
        self.squares += float(((numbers - mean) ** 2).sum()) + gap * gap * self.count * count / total
        self.mean += gap * count / total
        self.count = total
        self.low, self.high = min(self.low, float(numbers.min())), max(self.high, float(numbers.max()))

    def scale(self, column: str, transform: str) -> Scale:
        """The scale that standardises what was added, which was transformed already; equal numbers are only shifted."""
        differ = self.low < self.high  # the squares of equal numbers are not always 0, for their mean is rounded
        deviation = math.sqrt(self.squares / self.count) if differ else 0.0
        return Scale(column=column, transform=transform, mean=self.mean, deviation=deviation or 1.0)


def quantiles(sample: Sequence[Numbers], num_bins: int) -> tuple[float, ...]:
    """The different edges between `num_bins` bins of equal size; nulls are left out, and none of anything has no edges.

    >>> quantiles([np.array([4.0, 1.0]), np.array([np.nan, 2.0, 3.0])], 2)
    (2.5,)
    """
    values = np.concatenate([np.empty(0), *sample])
    values = values[~np.isnan(values)]
    if not len(values):
        return ()
    edges = np.quantile(values, np.arange(1, num_bins) / num_bins)
    return tuple(float(edge) for edge in np.unique(edges))

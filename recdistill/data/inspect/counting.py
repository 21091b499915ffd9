"""How often values occur, in bounded memory: exact up to a limit, then the heavy ones and an estimate of how many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.data.log.values import stable_key

LIMIT = 100_000  # values with counters of their own
SMALLEST = 16_384  # hashes kept for the estimate
ERROR = round(2 / (SMALLEST - 2) ** 0.5, 4)  # relative, of the estimate, in 95 of 100 cases

Ints = NDArray[np.int64]


@dataclass(slots=True)
class Counter:
    """Counts of the values of one column.

    Up to `limit` different values everything is exact. From there on counts are too low by at most `missed`, which is
    at most the total over limit + 1 (Misra and Gries 1982, merged as by Agarwal et al. 2012), and the number of
    different values is estimated from their smallest hashes (KMV: Bar-Yossef et al. 2002).
    """

    limit: int = LIMIT
    values: pa.Array | None = None
    counts: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    missed: int = 0
    _hashes: NDArray[np.uint64] | None = None

    def add(self, values: pa.Array) -> None:
        """Count values, none of which is null."""
        found, counts = counted(values)
        if self._hashes is not None or len(found) > self.limit:
            self._hash(found)
        found, counts = self._prune(found, counts)
        if self.values is not None:
            joined = pa.concat_arrays([self.values, found])
            found, counts = counted(joined, np.concatenate([self.counts, counts]))
            if len(found) > self.limit:
                self._hash(found)
        self.values, self.counts = self._prune(found, counts)

    @property
    def exact(self) -> bool:
        return self._hashes is None

    @property
    def num_distinct(self) -> int:
        """How many different values there are; an estimate within ERROR where not `exact`."""
        if self._hashes is None:
            return len(self.counts)
        if len(self._hashes) < SMALLEST:
            return len(self._hashes)
        return round((SMALLEST - 1) / (float(self._hashes[-1]) / 2.0**64))

    def top(self, num: int) -> list[tuple[Any, int]]:
        """(value, count) of the most frequent ones, equal counts in the order of the values as text."""
        if self.values is None:
            return []
        least = np.sort(self.counts)[-num:][0] if len(self.counts) else 0
        places = np.flatnonzero(self.counts >= least)[: 100 * num]
        values = self.values.take(pa.array(places)).to_pylist()
        found = sorted(zip(values, self.counts[places].tolist(), strict=True), key=lambda one: (-one[1], str(one[0])))
        return found[:num]

    def _prune(self, values: pa.Array, counts: Ints) -> tuple[pa.Array, Ints]:
        if len(counts) <= self.limit:
            return values, counts
        first_out = int(np.partition(counts, -self.limit - 1)[-self.limit - 1])
        self.missed += first_out
        kept = np.flatnonzero(counts > first_out)
        return values.take(pa.array(kept)), counts[kept] - first_out

    def _hash(self, values: pa.Array) -> None:
        """Those counted before are hashed with the first that are too many."""
        parts = [_hashes(values)]
        if self._hashes is not None:
            parts.append(self._hashes)
        elif self.values is not None:
            parts.append(_hashes(self.values))
        self._hashes = np.unique(np.concatenate(parts))[:SMALLEST]


def countable(kind: pa.DataType) -> bool:
    """Whether values of this type can be counted."""
    text = pt.is_string(kind) or pt.is_large_string(kind)
    return text or pt.is_boolean(kind) or pt.is_decimal(kind) or pt.is_integer(kind) or pt.is_floating(kind)


def counted(values: pa.Array, weights: Ints | None = None) -> tuple[pa.Array, Ints]:
    """Different values and how often each occurs, or the sum of its weights.

    >>> values, counts = counted(pa.array(["b", "a", "b"]), np.array([5, 1, 2]))
    >>> values.to_pylist(), counts.tolist()
    (['b', 'a'], [7, 1])
    """
    if pt.is_integer(values.type) or pt.is_floating(values.type):
        plain = values.to_numpy(zero_copy_only=False)
        if weights is None:
            found, counts = np.unique(plain, return_counts=True)
            return pa.array(found, values.type), counts
        found, codes = np.unique(plain, return_inverse=True)
        return pa.array(found, values.type), _sums(codes, len(found), weights)
    encoded = values if pt.is_dictionary(values.type) else values.dictionary_encode()
    counts = _sums(encoded.indices.to_numpy(zero_copy_only=False), len(encoded.dictionary), weights)
    there = np.flatnonzero(counts)
    return encoded.dictionary.take(pa.array(there)), counts[there]


def _sums(codes: NDArray[Any], num: int, weights: Ints | None) -> Ints:
    return np.bincount(codes, weights, minlength=num).astype(np.int64)


def _hashes(values: pa.Array) -> NDArray[np.uint64]:
    if pt.is_floating(values.type):
        values = pa.array(values.cast(pa.float64()).to_numpy(zero_copy_only=False).view(np.int64))
    return stable_key(values).view(np.uint64)

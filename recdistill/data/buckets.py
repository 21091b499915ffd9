"""Sort more rows than memory holds: kept on disk by a hash of their key, so that one bucket at a time is sorted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.data.tables import splitmix

ROWS_PER_BUCKET = 2_000_000
Ints = NDArray[np.int64]


class Buckets:
    """Rows of fixed fields; those of one key are in one bucket. num_rows: about how many rows will come."""

    def __init__(self, folder: Path, fields: Sequence[tuple[str, str]], num_rows: int) -> None:
        self.kind = np.dtype(list(fields))
        self.num = max(1, -(-num_rows // ROWS_PER_BUCKET))
        self.files = [(folder / f"bucket-{b:04d}").open("w+b") for b in range(self.num)]

    def add(self, key: str, values: Mapping[str, NDArray[Any]]) -> None:
        """[n] rows: an array for every field. key: the int64 field that keeps rows together."""
        rows = np.empty(len(values[key]), dtype=self.kind)
        for name in self.kind.names or ():
            rows[name] = values[name]
        if self.num == 1:
            rows.tofile(self.files[0])
            return
        bucket = splitmix(rows[key].view(np.uint64)) % np.uint64(self.num)
        order = np.argsort(bucket, kind="stable")
        ends = np.searchsorted(bucket[order], np.arange(self.num, dtype=np.uint64), side="right")
        for file, part in zip(self.files, np.split(rows[order], ends[:-1]), strict=True):
            part.tofile(file)

    def sorted(self, by: Sequence[str]) -> Iterator[NDArray[Any]]:
        """Each bucket, sorted by the last of the fields, then the one before it, and so on; its file is removed."""
        for file in self.files:
            file.seek(0)
            rows = np.fromfile(file, dtype=self.kind)
            yield rows[np.lexsort([rows[name] for name in by])]
            file.close()
            Path(file.name).unlink()


def groups(key: Ints) -> Ints:
    """[n] for sorted keys: where the run of each row's own key begins.

    >>> groups(np.array([4, 4, 7, 7, 7])).tolist()
    [0, 0, 2, 2, 2]
    """
    number = np.arange(len(key))
    new = np.ones(len(key), dtype=bool)
    new[1:] = key[1:] != key[:-1]
    return np.maximum.accumulate(np.where(new, number, 0)) if len(key) else number


def known_before(start: Ints, time: Ints, until: Ints) -> Ints:
    """[n] for rows sorted by key and time: the end of those of the same key, from `start` on, with time < until.

    until must not be later than the row's own time.

    >>> known_before(np.array([0, 0, 0, 3]), np.array([5, 7, 7, 1]), np.array([5, 7, 7, 1])).tolist()
    [0, 1, 1, 3]
    """
    low, high = start.copy(), np.arange(len(start))
    while (low < high).any():  # a binary search in every row at once
        middle = (low + high) // 2
        before = time[np.minimum(middle, len(time) - 1)] < until
        open_ = low < high
        low = np.where(open_ & before, middle + 1, low)
        high = np.where(open_ & ~before, middle, high)
    return low

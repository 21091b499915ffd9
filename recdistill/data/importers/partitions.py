"""Rows in any order -> Parquet partitioned by UTC day or month, in order of time, in the memory of one partition."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

TIME = "timestamp"
SPILL_BYTES = 64 << 20
ROWS_PER_PART = 2_000_000
_ROWS_PER_GROUP = 131_072
_SPILL = "_spill"
_UNITS: dict[str, Literal["D", "M"]] = {"day": "D", "month": "M"}


@dataclass(slots=True)
class _Bucket:
    """What is known of one partition's rows before they are written for good."""

    waiting: list[pa.Table] = field(default_factory=list)
    spilled: list[Path] = field(default_factory=list)
    last: int = -(2**63)
    """Time of the row that came last, microseconds."""
    in_order: bool = True


class Partitions:
    """Takes tables with a column `timestamp` and leaves KEY=VALUE/part-N.parquet under `folder`.

    Rows gather in files beside the result (up to SPILL_BYTES in memory). `close` sorts each partition by time, which
    must fit into memory, unless its rows came in order already: then it is copied through. Rows of one instant keep the
    order in which they came.
    """

    def __init__(self, folder: Path, length: Literal["day", "month"]) -> None:
        self.folder = folder
        self.length = length
        self.num_rows = 0
        self.least: dict[str, float] = {}
        """Least value of each numeric column so far; a column of nulls has none."""
        self._buckets: dict[int, _Bucket] = {}
        self._bytes = 0
        self._spills = 0

    def add(self, table: pa.Table) -> None:
        """Take some rows. timestamp: microseconds in UTC, without nulls."""
        self.num_rows += table.num_rows
        self._note_least(table)
        time = table[TIME].cast(pa.int64()).to_numpy()
        keys = time.view("datetime64[us]").astype(f"datetime64[{_UNITS[self.length]}]").astype(np.int64)
        if len(keys) and (np.diff(keys) < 0).any():
            order = np.argsort(keys, kind="stable")
            table, time, keys = table.take(order), time[order], keys[order]
        for first, after in _runs(keys):
            self._put(int(keys[first]), table.slice(first, after - first), time[first:after])
        self._bytes += table.nbytes
        if self._bytes >= SPILL_BYTES:
            self._spill()

    def _note_least(self, table: pa.Table) -> None:
        for name in table.column_names:
            kind = table.schema.field(name).type
            if pa.types.is_integer(kind) or pa.types.is_floating(kind):
                least = pc.min(table[name]).as_py()
                if least is not None:
                    self.least[name] = min(least, self.least.get(name, least))

    def _put(self, key: int, rows: pa.Table, time: NDArray[np.int64]) -> None:
        bucket = self._buckets.setdefault(key, _Bucket())
        bucket.in_order &= bool(bucket.last <= time[0] and (np.diff(time) >= 0).all())
        bucket.last = int(time[-1])
        bucket.waiting.append(rows)

    def _spill(self) -> None:
        for key, bucket in self._buckets.items():
            if bucket.waiting:
                path = self.folder / _SPILL / f"{key}-{self._spills}.arrow"
                path.parent.mkdir(exist_ok=True)
                rows = pa.concat_tables(bucket.waiting)
                with pa.ipc.new_file(path, rows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
                    writer.write_table(rows)
                bucket.spilled.append(path)
                bucket.waiting = []
        self._bytes = 0
        self._spills += 1

    def close(self) -> None:
        """Write the partitions of all rows so far for good; a later row of one of them is a mistake of the caller."""
        for key in sorted(self._buckets):
            value = np.datetime64(key, _UNITS[self.length])
            folder = self.folder / f"{self.length}={value}"
            folder.mkdir()
            _write(folder, _sorted(self._buckets.pop(key)))
        self._bytes = 0
        shutil.rmtree(self.folder / _SPILL, ignore_errors=True)


def _runs(keys: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """(first, after) of every stretch of equal keys.

    >>> list(_runs(np.array([3, 3, 5])))
    [(0, 2), (2, 3)]
    """
    edges = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
    return ((first, after) for first, after in pairwise(edges) if first < after)


def _sorted(bucket: _Bucket) -> Iterator[pa.Table]:
    parts = _parts(bucket)
    if bucket.in_order:
        yield from parts
        return
    whole = pa.concat_tables(parts)
    order = pc.sort_indices(whole[TIME])
    for first in range(0, whole.num_rows, _ROWS_PER_GROUP):
        yield whole.take(order.slice(first, _ROWS_PER_GROUP))


def _parts(bucket: _Bucket) -> Iterator[pa.Table]:
    for path in bucket.spilled:
        with pa.ipc.open_file(path) as file:
            yield file.read_all()
        path.unlink()
    yield from bucket.waiting


def _write(folder: Path, tables: Iterator[pa.Table]) -> None:
    writer, part, rows = None, 0, 0
    try:
        for table in tables:
            if writer is None:
                path = folder / f"part-{part}.parquet"
                writer = pq.ParquetWriter(path, table.schema, compression="zstd", write_page_checksum=True)
            writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
            rows += table.num_rows
            if rows >= ROWS_PER_PART:
                writer.close()
                writer, part, rows = None, part + 1, 0
    finally:
        if writer is not None:
            writer.close()

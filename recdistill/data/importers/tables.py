"""What the importers share: side tables that are joined in memory, event times, and how an import describes itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recdistill.data.importers.archive import Member
from recdistill.data.importers.lines import Chunk, Faults
from recdistill.data.importers.partitions import TIME, Partitions

INVENTED_START = np.datetime64("2000-01-01", "us")
"""Where logs that tell no date are made to begin."""
_PER_SECOND = {"s": 1, "ms": 1000}
_SECONDS = (-2_208_988_800, 4_102_444_800)  # 1900 to 2100


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What find.py writes into config.yaml. about: comment lines; data, features: the rest of the two sections."""

    about: str
    data: str
    features: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """A public log that can be imported. load: adds all rows to the partitions and says how to use them."""

    name: str
    length: Literal["day", "month"]
    load: Callable[[Path, Sequence[Member], Partitions, Faults], Ready]


class Side:
    """A side table in memory, to look rows up by a key that is unique."""

    def __init__(self, chunks: Iterator[Chunk], key: str, faults: Faults) -> None:
        """`faults` learns of every key that stands twice."""
        found = list(chunks)
        tables = [chunk.table for chunk in found]
        self.table = pa.concat_tables(tables).drop_columns([key]).combine_chunks() if tables else None
        keys = [column for table in tables for column in table[key].chunks]
        self._index = pd.Index(pa.chunked_array(keys).to_numpy() if keys else [])
        lines = (chunk.first_line + row for chunk in found for row in range(chunk.table.num_rows))
        if not self._index.is_unique:
            for line, value, again in zip(lines, self._index, self._index.duplicated(), strict=True):
                if again:
                    where = found[0].where
                    faults.add(where, line, wanted=f"every {key} once", found=f"{value} again")

    def look_up(self, table: pa.Table, column: str) -> pa.Table:
        """`table` with the side table's columns at its end; nulls where the column's value is not in the side table."""
        if self.table is None or not self._index.is_unique:
            return table  # its faults end the import
        places = self._index.get_indexer(table[column].to_numpy())
        rows = self.table.take(pa.array(places, mask=places < 0))
        for name in rows.column_names:
            table = table.append_column(name, rows[name])
        return table


def with_time(chunk: Chunk, column: str, unit: Literal["s", "ms"], faults: Faults) -> pa.Table:
    """The chunk's rows with whole numbers since 1970 in `column` replaced by `timestamp`, at the same place.

    A number outside the years 1900 to 2099 is a fault: it is of another unit.
    """
    numbers = chunk.table[column].to_numpy()
    low, high = (edge * _PER_SECOND[unit] for edge in _SECONDS)
    for row in np.flatnonzero((numbers < low) | (numbers >= high)).tolist():
        wanted = f"{column}: {unit} since 1970 of the years 1900 to 2099"
        faults.add(chunk.where, chunk.first_line + row, wanted=wanted, found=str(numbers[row]))
    time = timestamps(np.clip(numbers, low, high - 1) * (1_000_000 // _PER_SECOND[unit]))
    return chunk.table.set_column(chunk.table.column_names.index(column), TIME, time)


def timestamps(microseconds: NDArray[np.int64]) -> pa.Array:
    """UTC timestamps of microseconds since 1970."""
    return pa.array(microseconds.astype(np.int64)).cast(pa.timestamp("us", tz="UTC"))


def spread(first: int, count: int, total: int, days: int) -> pa.Array:
    """Invented times for rows `first` up to `first + count` of `total`, spread evenly over so many days."""
    step = days * 86_400_000_000 // max(total, 1)
    return timestamps(INVENTED_START.astype(np.int64) + np.arange(first, first + count) * step)


def small(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The table with boolean columns of those names as int8: 0 and 1."""
    for name in columns:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.int8()))
    return table


def split_list(values: pa.ChunkedArray, separator: str, nothing: str = "") -> pa.ChunkedArray:
    """Lists of strings; a null and the text `nothing` are the empty list.

    >>> split_list(pa.chunked_array([["a|b", "", None]]), "|").to_pylist()
    [['a', 'b'], [], []]
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    texts = pc.fill_null(values, nothing)
    lists = pc.split_pattern(texts, separator)
    empty = pc.equal(texts, nothing)
    lengths = pc.if_else(empty, 0, pc.list_value_length(lists)).to_numpy(zero_copy_only=False)
    kept = pc.list_flatten(lists).filter(pc.invert(pc.take(empty, pc.list_parent_indices(lists))))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), kept)])


def dense(columns: Sequence[str], partitions: Partitions) -> str:
    """The config's list of numbers: log1p where no value is below 0, else plain."""
    plain = {name for name in columns if partitions.least.get(name, 0) < 0}
    items = [name if name in plain else f"{{column: {name}, transform: log1p}}" for name in columns]
    return "".join(f"\n    - {item}" for item in items)

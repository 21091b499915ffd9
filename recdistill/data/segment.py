"""Consecutive rows of one file of the log, encoded and memory-mapped: codes beside their values, numbers, keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.data.codes import Coded, narrow_numbers
from recdistill.data.columns import column, numbers
from recdistill.data.contract.repeats import event_key
from recdistill.data.log.listing import LogFile
from recdistill.data.plan import Plan, every_value, source_key
from recdistill.data.raw import RawRows

Ints = NDArray[np.int64]
_FIRST, _SPAN = b"first row", b"span"  # in the file's metadata; the first where its rows follow one another


@dataclass(frozen=True)
class Segment:
    """Rows of a part, less those in quarantine. number: its place in the part."""

    folder: Path
    number: int
    file: LogFile

    @cached_property
    def _rows(self) -> pa.RecordBatch:
        return _read(_path(self.folder, "rows", self.number))

    @cached_property
    def _values(self) -> pa.RecordBatch:
        return _read(_path(self.folder, "values", self.number))

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """[n] time, user, request, label, `task NAME` or `key NAME`."""
        found: NDArray[Any] = self._rows.column(name).to_numpy()
        return found

    @property
    def row(self) -> Ints:
        """[n] numbers of the rows in their file."""
        metadata = self._rows.schema.metadata
        if _FIRST not in metadata:
            return self["row"]
        first = int(metadata[_FIRST])
        return np.arange(first, first + len(self))

    @property
    def span(self) -> tuple[int, int]:
        """The earliest and the latest time; (0, 0) without rows."""
        low, high = self._rows.schema.metadata[_SPAN].split()
        return int(low), int(high)

    @property
    def row_id(self) -> Ints:
        """[n] numbers of the rows in the whole log."""
        return self.row + self.file.first_row

    @property
    def happened(self) -> NDArray[np.bool_] | None:
        """[n] which rows are events; None where all are, as drawn negatives are not."""
        return self.numbers("event") > 0 if "number event" in self._rows.schema.names else None

    def codes(self, key: str) -> list[NDArray[np.signedinteger]]:
        """One array [n] of codes per column that the source fills; -1 where there is no value."""
        names = [name for name in self._rows.schema.names if name.startswith(f"code {key}\0")]
        return [self[name] for name in names]

    def values(self, key: str) -> pa.Array:
        """[d] the plain values that the codes number."""
        return self._values.column(f"value {key}").flatten()

    def counts(self, key: str) -> Ints:
        """[d] how often each of these values stands in the segment."""
        found: Ints = self._values.column(f"count {key}").flatten().to_numpy()
        return found

    def whole_key(self, name: str) -> str:
        """The key of the source that holds every value of a column."""
        one, all_of_them = (source_key(every_value(name, is_list)) for is_list in (False, True))
        return one if f"value {one}" in self._values.schema.names else all_of_them

    def numbers(self, name: str) -> NDArray[np.float64]:
        """[n] a numeric column, NaN for null."""
        return self[f"number {name}"].astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of the log, read. num_bad: rows in quarantine."""

    folder: Path
    file: LogFile
    num_segments: int
    num_bad: int

    def segments(self) -> Iterator[Segment]:
        """In the order of the file."""
        for number in range(self.num_segments):
            yield Segment(self.folder, number, self.file)


def write_segment(folder: Path, number: int, plan: Plan, rows: RawRows, coded: Sequence[Coded]) -> None:
    """rows-NNNN.arrow with a column per array, values-NNNN.arrow with the values behind the codes of every source."""
    kept: dict[str, pa.Array] = {n: pa.array(getattr(rows, n)) for n in ("time", "user", "request", "label")}
    values: dict[str, pa.Array] = {}
    for key, found in zip(plan.coded, coded, strict=True):
        kept |= {f"code {key}\0{place}": pa.array(codes) for place, codes in enumerate(found.codes)}
        values |= {f"value {key}": _whole(found.values), f"count {key}": _whole(pa.array(found.counts))}
    kept |= {f"task {name}": pa.array(np.ascontiguousarray(rows.tasks[:, n])) for n, name in enumerate(plan.tasks)}
    kept |= {f"number {name}": pa.array(_narrow(column(rows.columns, name))) for name in plan.numbers}
    kept |= {f"key {name}": pa.array(event_key(rows.columns, columns)) for name, columns in plan.keys.items()}
    about = {_SPAN: f"{rows.time.min()} {rows.time.max()}" if len(rows.time) else "0 0"}
    first = int(rows.row_id[0]) if len(rows.row_id) else 0
    if np.array_equal(rows.row_id, np.arange(first, first + len(rows.row_id))):
        about[_FIRST] = str(first)
    else:
        kept["row"] = pa.array(rows.row_id)
    _write(_path(folder, "rows", number), kept, about)
    _write(_path(folder, "values", number), values, {})


def _path(folder: Path, stem: str, number: int) -> Path:
    return folder / f"{stem}-{number:04d}.arrow"


def _narrow(values: pa.Array) -> NDArray[np.floating]:
    """[n] as `columns.numbers`, in 32 bits where they hold it."""
    if pt.is_floating(values.type):
        found: NDArray[np.float32] = values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
        return found
    return narrow_numbers(numbers(values))


def _whole(values: pa.Array) -> pa.Array:
    """Values of any number as the only row of a column."""
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def _write(path: Path, columns: dict[str, pa.Array], metadata: dict[bytes, str]) -> None:
    batch = pa.record_batch(columns, metadata=metadata)
    with pa.ipc.new_file(path, batch.schema) as writer:
        writer.write_batch(batch)


def _read(path: Path) -> pa.RecordBatch:
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        return reader.get_batch(0)

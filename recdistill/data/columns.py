"""The values behind the features, computed in one way for training and serving: columns, crosses, calendar parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.config.data import Data
from recdistill.config.features import Features, IdColumn
from recdistill.data.log.values import microseconds, plain_ids, stable_key
from recdistill.data.tables import splitmix
from recdistill.problems import BadInput, problem

Rows: TypeAlias = pa.RecordBatch | pa.Table
Ints = NDArray[np.int64]
HISTORY = "history."  # a raw request names its lists of past events history.<feature>, oldest first
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an id feature's values come from. calendar: which part of the time in `columns`; width: of a list."""

    columns: tuple[str, ...]
    calendar: str | None = None
    time_unit: str | None = None
    width: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> Source:
        return Source(**{**value, "columns": tuple(value["columns"])})

    def values(self, rows: Rows) -> pa.Array:
        """[n] plain or raw ids, null where there is no value; lists where `width` is given."""
        arrays = [column(rows, name) for name in self.columns]
        if self.calendar is not None:
            return _calendar(arrays[0], self.calendar, self.time_unit)
        return arrays[0] if len(arrays) == 1 else cross(arrays)


def column(rows: Rows, name: str) -> pa.Array:
    """A column as one array. BadInput where there is none of that name."""
    if name not in rows.schema.names:
        remedy = f"give it; there are {', '.join(rows.schema.names)}"
        raise BadInput(problem("request", wanted=f"column {name}", found="none", remedy=remedy))
    found = rows.column(name)
    if not isinstance(found, pa.ChunkedArray):
        return found
    return found.chunk(0) if found.num_chunks == 1 else found.combine_chunks()


def source_of(spec: IdColumn, data: Data) -> Source:
    """The source of a feature as configured."""
    if spec.calendar is not None:
        return Source(columns=(data.time,), calendar=spec.calendar, time_unit=data.time_unit)
    return Source(columns=tuple(spec.columns), width=spec.max_values)


def event_columns(features: Features) -> dict[str, str]:
    """Feature name of the history -> the id feature, or else the column, that its events are made of."""
    history = features.history
    return {} if history is None else {HISTORY + name: name for name in (history.item, *history.outcomes)}


def cross(arrays: list[pa.Array]) -> pa.Array:
    """[n] int64: one value per combination (64 bits of a hash), null where any part is null."""
    keys = np.zeros(len(arrays[0]), dtype=np.uint64)
    valid = np.ones(len(keys), dtype=bool)
    for array in map(plain_ids, arrays):  # the dictionary of an array may hold the null
        present = array.is_valid().to_numpy(zero_copy_only=False)
        part = np.zeros(len(keys), dtype=np.uint64)
        part[present] = stable_key(array.drop_null()).view(np.uint64)
        keys = splitmix(keys ^ part)
        valid &= present
    return pa.array(keys.view(np.int64), mask=~valid)


def _calendar(times: pa.Array, part: str, unit: str | None) -> pa.Array:
    valid = times.is_valid().to_numpy(zero_copy_only=False)
    at = microseconds(pc.fill_null(times, 0), unit)
    return pa.array(_PARTS[part](at).astype(np.int64), mask=None if valid.all() else ~valid)


def _hour(at: Ints) -> Ints:
    return at // _HOUR_US % 24


def _weekday(at: Ints) -> Ints:
    return (at // (24 * _HOUR_US) + 3) % 7  # 1970 began on a Thursday; Monday is 0


def _months(at: Ints) -> Ints:
    return at.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _day_of_month(at: Ints) -> Ints:
    days = at.astype("datetime64[us]").astype("datetime64[D]")
    return (days - days.astype("datetime64[M]")).astype(np.int64) + 1


_PARTS: dict[str, Callable[[Ints], Ints]] = {
    "hour": _hour,
    "weekday": _weekday,
    "hour_of_week": lambda at: _weekday(at) * 24 + _hour(at),
    "day_of_month": _day_of_month,
    "month": lambda at: _months(at) % 12 + 1,
}


def listed(values: pa.Array, width: int, *, last: bool = False) -> tuple[Ints, Ints, pa.Array]:
    """(row, place in its list, value) of the first `width` elements of every list; a column without a type has none.

    last: the last ones instead, places counted from the end.
    """
    if pt.is_null(values.type):
        values = values.cast(pa.list_(pa.null()))
    flat = pc.list_flatten(values)
    length = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    row = np.repeat(np.arange(len(values)), length)
    place = np.arange(len(flat)) - np.repeat(np.cumsum(length) - length, length)
    if last:
        place = np.repeat(length, length) - 1 - place
    kept = place < width
    if kept.all():
        return row, place, flat
    return row[kept], place[kept], flat.filter(pa.array(kept))


def numbers(values: pa.Array) -> NDArray[np.float64]:
    """[n] float64, NaN for null; fractions as 32 bits hold them, which is what a model reads and a part keeps."""
    if pt.is_floating(values.type):
        values = values.cast(pa.float32(), safe=False)
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)

"""What is in one column of a log, counted table by table in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.data.contract.outside import floats, is_list, is_text
from recdistill.data.inspect.counting import ERROR, Counter, countable

QUANTILES = (1, 25, 50, 75, 99)
FEW = 20  # up to so many different values are listed
TOP = 5
_SECONDS = {"day": 86400.0, "s": 1.0, "ms": 1e-3}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """One column over all rows.

    num_distinct: of values, or elements of lists; within distinct_error of it (None: exact). top: most frequent values
    with their counts, too low by at most top_error. values: all of them, where there are few, else None. low, high,
    quantiles: of finite numbers, of instants, or of the lengths of lists; None where there are none. longest:
    characters of a string; None for other types.
    """

    name: str
    type: pa.DataType
    num_rows: int
    num_nulls: int
    num_not_finite: int
    num_distinct: int | None
    distinct_error: float | None
    top: list[tuple[Any, int]]
    top_error: int
    values: list[Any] | None
    low: Any
    high: Any
    quantiles: dict[int, Any]
    num_sampled: int
    longest: int | None

    def to_json(self) -> dict[str, Any]:
        total = max(1, self.num_rows - self.num_nulls)
        return {
            "type": str(self.type),
            "rows": self.num_rows,
            "null_rate": self.num_nulls / max(1, self.num_rows),
            "not_finite": self.num_not_finite,
            "distinct": self.num_distinct,
            "distinct_error": self.distinct_error,
            "top": [[_plain(value), count / total] for value, count in self.top],
            "top_error": self.top_error / total,
            "min": _plain(self.low),
            "max": _plain(self.high),
            "quantiles": {str(n): _plain(value) for n, value in self.quantiles.items()},
            "sampled": self.num_sampled,
            "longest": self.longest,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float) or value is None else str(value)[:200]


@dataclass(slots=True)
class Column:
    """What is known so far of one column. unit: of whole numbers that are instants, else None."""

    name: str
    type: pa.DataType
    unit: str | None
    num_rows: int = 0
    num_nulls: int = 0
    num_not_finite: int = 0
    longest: int = -1
    low: Any = None
    high: Any = None
    counter: Counter = field(default_factory=Counter)
    sample: list[NDArray[Any]] = field(default_factory=list)

    def add(self, values: pa.Array, chosen: NDArray[np.int64]) -> None:
        """Count some rows. chosen: places of those that quantiles are taken from."""
        self.num_rows += len(values)
        nulls = values.null_count
        if pt.is_dictionary(values.type) and (values.dictionary.null_count or not is_text(values.type.value_type)):
            values = values.dictionary_decode()
            nulls = values.null_count
        self.num_nulls += nulls
        if is_list(values.type):
            self._measure(pc.list_value_length(values), chosen)
            values = pc.list_flatten(values)
        elif not pt.is_dictionary(values.type):
            values = _whole(values)
            if pt.is_integer(values.type) or pt.is_floating(values.type) or pt.is_decimal(values.type):
                self._measure(values, chosen)
        self._count(values.drop_null() if values.null_count else values)

    def _measure(self, values: pa.Array, chosen: NDArray[np.int64]) -> None:
        """Least, greatest and a sample of the finite ones."""
        sampled = values.take(pa.array(chosen)).drop_null()
        if not pt.is_integer(values.type):
            numbers = floats(values)
            finite = np.isfinite(numbers)
            self.num_not_finite += len(values) - values.null_count - int(finite.sum())
            values = pa.array(numbers if finite.all() else numbers[finite])
            sampled = floats(sampled)
            sampled = pa.array(sampled[np.isfinite(sampled)])
        found = pc.min_max(values).as_py()
        if found["min"] is not None:
            self.low = found["min"] if self.low is None else min(self.low, found["min"])
            self.high = found["max"] if self.high is None else max(self.high, found["max"])
        self.sample.append(sampled.to_numpy(zero_copy_only=False))

    def _count(self, values: pa.Array) -> None:
        kind = values.type.value_type if pt.is_dictionary(values.type) else values.type
        if not (countable(kind) or _is_time(kind)):
            return
        if is_text(kind):
            texts = values.dictionary if pt.is_dictionary(values.type) else values
            self.longest = max(self.longest, pc.max(pc.utf8_length(texts)).as_py() or 0)
        self.counter.add(_whole(values))

    def finish(self) -> ColumnProfile:
        counter, kind = self.counter, self.type.value_type if is_list(self.type) else self.type
        known = counter.values is not None
        few = known and counter.exact and counter.num_distinct <= FEW
        top = [(self._shown(value, kind), count) for value, count in counter.top(FEW if few else TOP)]
        sample = np.sort(np.concatenate(self.sample)) if self.sample else np.empty(0)
        places = {n: round((len(sample) - 1) * n / 100) for n in QUANTILES} if len(sample) else {}
        measured = pa.int32() if is_list(self.type) else kind
        return ColumnProfile(
            name=self.name,
            type=self.type,
            num_rows=self.num_rows,
            num_nulls=self.num_nulls,
            num_not_finite=self.num_not_finite,
            num_distinct=counter.num_distinct if known else None,
            distinct_error=None if counter.exact else ERROR,
            top=top[:TOP],
            top_error=counter.missed,
            values=[value for value, _ in top] if few else None,
            low=self._shown(self.low, measured),
            high=self._shown(self.high, measured),
            quantiles={n: self._shown(sample[place].item(), measured) for n, place in places.items()},
            num_sampled=len(sample),
            longest=None if self.longest < 0 else self.longest,
        )

    def _shown(self, value: Any, kind: pa.DataType) -> Any:
        """Instants as such, where a calendar can name them."""
        unit = "day" if pt.is_date32(kind) else "ms" if pt.is_date64(kind) else None
        unit = kind.unit if pt.is_timestamp(kind) else unit
        if pt.is_integer(kind) and self.unit is not None and not is_list(self.type):
            unit = self.unit
        return value if unit is None or value is None else _instant(value, unit)


def _instant(value: int, unit: str) -> datetime | int:
    try:
        if unit in ("us", "ns"):
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value if unit == "us" else value // 1000)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value * _SECONDS[unit])
    except OverflowError:
        return value


def _is_time(kind: pa.DataType) -> bool:
    return pt.is_timestamp(kind) or pt.is_date(kind)


def _whole(values: pa.Array) -> pa.Array:
    """Instants as the whole numbers that they are kept as."""
    if not _is_time(values.type):
        return values
    return values.view(pa.int32() if pt.is_date32(values.type) else pa.int64())

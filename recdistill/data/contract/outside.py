"""Places in a column whose values lie outside what is allowed: a look at the whole first, masks only where it fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

Places = NDArray[np.int64]
Mask = NDArray[np.bool_]

NONE: Places = np.empty(0, dtype=np.int64)
_US_PER = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}


def nulls(values: pa.Array) -> Places:
    """Where there is no value."""
    return np.flatnonzero(_numpy(values.is_null())) if values.null_count else NONE


def floats(values: pa.Array) -> NDArray[np.float64]:
    """[n] the numbers of any type, NaN for null."""
    found: NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return found


def where(values: pa.Array, mask: Mask) -> Places:
    """The places of the mask, but for nulls."""
    return np.flatnonzero(mask & _numpy(values.is_valid()) if values.null_count else mask)


def outside(values: pa.Array, low: float | None, high: float | None) -> Places:
    """Numbers below `low` or above `high`, NaN included; None is no bound.

    >>> outside(pa.array([0, 3, None, 9]), 1, 5).tolist(), outside(pa.array([float("nan"), 2.0]), None, 5).tolist()
    ([0, 3], [0])
    """
    if pt.is_boolean(values.type):
        values = values.cast(pa.int8())
    if pt.is_integer(values.type):
        return outside_whole(
            values, None if low is None else math.ceil(low), None if high is None else math.floor(high)
        )
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    if _all_between(_raw(values), low, high):
        return NONE
    numbers = floats(values)
    return where(values, ~((numbers >= low) & (numbers <= high)))


def _raw(values: pa.Array) -> NDArray[Any]:
    """[n] the numbers as they lie in memory, without a copy where that can be; anything where there is a null."""
    if not pt.is_floating(values.type) or not len(values):
        return floats(values)
    kind = values.type.to_pandas_dtype()
    return np.frombuffer(values.buffers()[1], kind)[values.offset : values.offset + len(values)]


def _all_between(numbers: NDArray[Any], low: float, high: float) -> bool:
    """Both extremes are NaN where any number is, and so between nothing."""
    return not len(numbers) or bool(numbers.min() >= low and numbers.max() <= high)


def outside_whole(values: pa.Array, low: int | None, high: int | None) -> Places:
    """Whole numbers below `low` or above `high`, which may lie beyond the type's own range."""
    found = pc.min_max(values).as_py()
    least, greatest = found["min"], found["max"]
    if least is None:
        return NONE
    below, above = low is not None and least < low, high is not None and greatest > high
    if (below and greatest < low) or (above and least > high):
        return np.flatnonzero(_numpy(values.is_valid()))
    masks = [pc.less(values, pa.scalar(low, values.type))] if below else []
    masks += [pc.greater(values, pa.scalar(high, values.type))] if above else []
    bad = [_numpy(pc.fill_null(mask, False)) for mask in masks]
    return np.flatnonzero(np.logical_or.reduce(bad)) if bad else NONE


def outside_times(values: pa.Array, unit: str | None, low: int | None, high: int | None) -> Places:
    """Instants before `low` or after `high`, in UTC microseconds; whole numbers are of `unit`. Nothing overflows."""
    kind = values.type
    if pt.is_timestamp(kind):
        values, (num, den) = values.view(pa.int64()), _US_PER[kind.unit]
    elif pt.is_date32(kind):
        values, (num, den) = values.view(pa.int32()), (86_400_000_000, 1)
    elif pt.is_date64(kind):
        values, (num, den) = values.view(pa.int64()), _US_PER["ms"]
    else:
        assert unit is not None
        values, (num, den) = values if pt.is_integer(kind) else values.cast(pa.int64()), _US_PER[unit]
    low = None if low is None else -(-low * den // num)
    return outside_whole(values, low, None if high is None else ((high + 1) * den - 1) // num)


def not_allowed(values: pa.Array, allowed: Sequence[Any]) -> Places:
    """Values that are none of `allowed`, which all `fit`; of a list, rows with such an element."""
    if is_list(values.type):
        bad = not_allowed(pc.list_flatten(values), allowed)
        return np.unique(_numpy(pc.list_parent_indices(values))[bad].astype(np.int64))
    kind = values.type.value_type if pt.is_dictionary(values.type) else values.type
    known = pa.array([fitting(kind, value) for value in allowed], kind)
    if pt.is_floating(kind):
        known, values = _unsigned_zero(known), _unsigned_zero(values)
    return _each(values, lambda part: pc.invert(pc.is_in(part, value_set=known)))


def too_long(values: pa.Array, most: int) -> Places:
    """Strings of more characters or lists of more elements than `most`."""
    if is_list(values.type):
        return outside_whole(pc.list_value_length(values), None, most)

    def longer(part: pa.Array) -> pa.Array:
        length = pc.binary_length(part)
        return pc.greater(
            length if not len(part) or (pc.max(length).as_py() or 0) <= most else pc.utf8_length(part), most
        )

    return _each(values, longer)


def fitting(kind: pa.DataType, value: Any) -> Any:
    """The value as one of this type. ValueError where it is none."""
    if is_list(kind) or pt.is_dictionary(kind):
        return fitting(kind.value_type, value)
    made: Any
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if pt.is_integer(kind) and number and float(value).is_integer():
        made = int(value)
    elif pt.is_decimal(kind) and number:
        made = Decimal(str(value))
    elif (
        (pt.is_floating(kind) and number)
        or (pt.is_boolean(kind) and isinstance(value, bool))
        or (is_text(kind) and isinstance(value, str))
    ):
        made = value
    else:
        raise ValueError(f"{value!r} is no {kind}")
    pa.scalar(made, kind)  # ArrowInvalid, a ValueError, beyond its range
    return made


def is_text(kind: pa.DataType) -> bool:
    return pt.is_string(kind) or pt.is_large_string(kind)


def is_list(kind: pa.DataType) -> bool:
    return pt.is_list(kind) or pt.is_large_list(kind)


def _unsigned_zero(values: pa.Array) -> pa.Array:
    return pc.add(values, pa.scalar(0.0, values.type))  # is_in tells -0.0 from 0.0


def _each(values: pa.Array, bad: Callable[[pa.Array], pa.Array]) -> Places:
    """Places where `bad` is true; a dictionary's values are judged once each."""
    if pt.is_dictionary(values.type):
        judged = pc.fill_null(bad(values.dictionary), False)
        return _each(pc.take(judged, values.indices), lambda part: part) if pc.any(judged).as_py() else NONE
    mask = bad(values)
    mask = pc.and_(mask, values.is_valid()) if values.null_count else mask
    return np.flatnonzero(_numpy(pc.fill_null(mask, False))) if pc.any(mask).as_py() else NONE


def _numpy(values: pa.Array) -> NDArray[Any]:
    found: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return found

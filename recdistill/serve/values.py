"""Values of a request as they come in, checked: whole numbers, texts, numbers, and Arrow arrays for all else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.problems import BadInput, problem

Ints = NDArray[np.int64]
Numbers = NDArray[np.float64]
_NONE = type(None)


def type_of(text: str) -> pa.DataType:
    """The Arrow type that a manifest names; that of the values of a dictionary.

    >>> type_of("list<element: dictionary<values=string, indices=int32, ordered=0>>")
    ListType(list<item: string>)
    """
    listed = re.fullmatch(r"(?:large_)?list<\w+: (.+?)(?: not null)?>", text)
    if listed:
        return pa.list_(type_of(listed[1]))
    coded = re.fullmatch(r"dictionary<values=(.+), indices=\w+, ordered=\d>", text)
    if coded:
        return type_of(coded[1])
    time = re.fullmatch(r"timestamp\[(\w+)(?:, tz=(.+))?\]", text)
    if time:
        return pa.timestamp(time[1], tz=time[2])
    return pa.float64() if text.startswith("decimal") else pa.type_for_alias(text)


def is_plain_int(kind: pa.DataType) -> bool:
    """Whether ids of a type are the whole numbers themselves; unsigned ones of 64 bits wrap, and are left to Arrow."""
    return pt.is_integer(kind) and not pt.is_uint64(kind)


def is_text(kind: pa.DataType) -> bool:
    return pt.is_string(kind) or pt.is_large_string(kind)


def refused(name: str, wanted: str, found: str) -> BadInput:
    """An error that names the column and never repeats the value."""
    return BadInput(problem(f"column {name}", wanted=wanted, found=found, remedy="send such values"))


def whole_numbers(name: str, values: Any) -> tuple[Ints, NDArray[np.bool_] | None]:
    """([n] int64 with 0 for null, where it is null or None where nowhere is). BadInput for floats, texts, booleans."""
    if isinstance(values, pa.Array | pa.ChunkedArray) and pt.is_integer(values.type) and values.null_count:
        missing = values.is_null().to_numpy(zero_copy_only=False)
        return whole_numbers(name, values.fill_null(0))[0], missing
    if isinstance(values, pa.Array):
        values = values.to_numpy(zero_copy_only=False)
    elif isinstance(values, pa.ChunkedArray):
        values = values.to_numpy()
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "iu" or values.dtype == np.uint64 or values.ndim != 1:
            raise refused(name, "whole numbers of 64 bits", f"an array of {values.dtype}")
        return values.astype(np.int64, copy=False), None
    kinds = set(map(type, values))
    try:
        if kinds <= {int}:
            return np.fromiter(values, np.int64, len(values)), None
        if kinds <= {int, _NONE}:
            missing = np.fromiter((value is None for value in values), np.bool_, len(values))
            return np.fromiter((value or 0 for value in values), np.int64, len(values)), missing
    except OverflowError:
        raise refused(name, "whole numbers of 64 bits", "a larger one") from None
    raise refused(name, "whole numbers", _names(kinds - {int, _NONE}))


def texts(name: str, values: Any) -> Sequence[str | None]:
    """The texts as a list. BadInput for anything else."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        values = values.to_pylist()
    elif isinstance(values, np.ndarray):
        values = values.tolist()
    kinds = set(map(type, values))
    if not kinds <= {str, _NONE}:
        raise refused(name, "texts", _names(kinds - {str, _NONE}))
    found: Sequence[str | None] = values
    return found


def numbers(name: str, values: Any, kind: pa.DataType) -> Numbers:
    """[n] float64, NaN for null, as `data.columns.numbers` gives them. BadInput for texts, booleans and infinities."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        values = values.to_pylist() if values.null_count else values.to_numpy(zero_copy_only=False)
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "iuf" or values.ndim != 1:
            raise refused(name, "numbers", f"an array of {values.dtype}")
        found = values.astype(np.float64)
    else:
        kinds = set(map(type, values))
        if not kinds <= {int, float, _NONE}:
            raise refused(name, "numbers", _names(kinds - {int, float, _NONE}))
        found = np.array(values, dtype=np.float64)
    if np.isinf(found).any():
        raise refused(name, "finite numbers", "an infinite one")
    if pt.is_floating(kind):
        with np.errstate(over="ignore"):
            found = found.astype(np.float32).astype(np.float64)
    return found


def arrow(name: str, values: Any, kind: pa.DataType) -> pa.Array:
    """Values of any type as an array of the type; instants also as ISO texts. BadInput where they are none.

    The types are looked at here, for Arrow would take 1.5 as the whole number 1.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    try:
        if isinstance(values, pa.Array):
            return values if values.type == kind else values.cast(kind)
        values = values.tolist() if isinstance(values, np.ndarray) else list(values)
        _check(name, values, kind)
        if pt.is_temporal(kind):
            values = [datetime.fromisoformat(value) if isinstance(value, str) else value for value in values]
        found: pa.Array = pa.array(values, kind)
    except BadInput:
        raise
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        raise refused(name, str(kind), "another value") from None
    return found


def _check(name: str, values: Sequence[Any], kind: pa.DataType) -> None:
    found = set(map(type, values)) - {_NONE}
    wrong = found - _allowed(kind)
    if wrong:
        raise refused(name, str(kind), _names(wrong))
    if pt.is_list(kind):
        _check(name, [inner for value in values if value is not None for inner in value], kind.value_type)


def _allowed(kind: pa.DataType) -> set[type]:
    if pt.is_list(kind):
        return {list, tuple}
    if pt.is_integer(kind):
        return {int}
    if pt.is_floating(kind):
        return {int, float}
    if pt.is_boolean(kind):
        return {bool}
    return {int, str, datetime, date} if pt.is_temporal(kind) else {str}


def _names(kinds: set[type]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds))

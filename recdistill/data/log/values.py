"""What values of any Arrow type are: what a column can serve as, ids that compare equal, stable keys, instants."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray


def family(kind: pa.DataType) -> str:
    """What a column can serve as: id, ids (a list of them), number, time or something else.

    >>> family(pa.int32()), family(pa.list_(pa.string())), family(pa.float64()), family(pa.date32())
    ('id', 'ids', 'number', 'time')
    """
    if pt.is_dictionary(kind):
        return family(kind.value_type)
    if pt.is_list(kind) or pt.is_large_list(kind):
        return "ids" if family(kind.value_type) == "id" else "something else"
    if pt.is_integer(kind) or pt.is_string(kind) or pt.is_large_string(kind) or pt.is_boolean(kind):
        return "id"
    if pt.is_floating(kind) or pt.is_decimal(kind):
        return "number"
    return "time" if pt.is_timestamp(kind) or pt.is_date(kind) else "something else"


def plain_ids(values: pa.Array) -> pa.Array:
    """Ids of any type as int64 or, for strings and fractions, as string, so that equal ids compare equal everywhere."""
    if pt.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pt.is_uint64(values.type):
        return values.view(pa.int64())  # hashes above the signed range keep their identity
    kind = values.type
    text = pt.is_string(kind) or pt.is_large_string(kind) or pt.is_floating(kind) or pt.is_decimal(kind)
    return values.cast(pa.string() if text else pa.int64())


def stable_key(values: pa.Array) -> NDArray[np.int64]:
    """A 64-bit key per id, the same on every machine and in every run; ids have no nulls."""
    plain = plain_ids(values)
    if pt.is_int64(plain.type):
        return pd.util.hash_array(plain.to_numpy(zero_copy_only=False)).view(np.int64)
    encoded = plain.dictionary_encode()
    keys = pd.util.hash_array(np.asarray(encoded.dictionary.to_pylist(), dtype=object)).view(np.int64)
    return keys[encoded.indices.to_numpy(zero_copy_only=False)]


def microseconds(values: pa.Array, unit: str | None) -> NDArray[np.int64]:
    """UTC microseconds since 1970 of a timestamp, a date, or whole numbers of a stated unit."""
    if unit is not None and not pt.is_timestamp(values.type):
        values = values.cast(pa.int64()).cast(pa.timestamp(unit))
    return pc.cast(values, pa.timestamp("us"), safe=False).cast(pa.int64()).to_numpy(zero_copy_only=False)

"""Values to codes: every column of a segment as small whole numbers beside the list of its different values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.data.columns import listed
from recdistill.data.log.values import plain_ids

_MOST_KNOWN = 2_000_000  # values that are remembered from one segment to the next
_NEW_ENOUGH = 0.02  # share of rows with a new value from which on the new ones are remembered too
Codes = NDArray[np.signedinteger]


class Coder:
    """Codes of one source, segment after segment. It remembers whole numbers, since most of them come again.

    What it remembers makes it faster and changes nothing that it returns but the order of the values.
    """

    def __init__(self, width: int | None) -> None:
        self.width = width
        self.known = pd.Index([], dtype="int64")

    def __call__(self, values: pa.Array) -> tuple[list[Codes], pa.Array]:
        """Codes [n] of each place, -1 where there is no value, and the different plain values that they number.

        There is one place without a width, else as many as the longest list has, up to the width.

        >>> codes, values = Coder(2)(pa.array([["b", "a", "c"], [], None, ["a"]]))
        >>> [place.tolist() for place in codes], values.to_pylist()
        ([[0, -1, -1, 1], [1, -1, -1, -1]], ['b', 'a'])
        """
        if self.width is None:
            codes, different = self._coded(values)
            return [narrow(codes, len(different))], different
        row, place, flat = listed(values, self.width)
        found, different = self._coded(flat)
        out = np.full((int(place.max(initial=-1)) + 1, len(values)), -1, dtype=np.int32)
        out[place, row] = found
        return [narrow(codes, len(different)) for codes in out], different

    def _coded(self, values: pa.Array) -> tuple[NDArray[np.int32], pa.Array]:
        if pt.is_null(values.type):
            return np.full(len(values), -1, dtype=np.int32), pa.array([], pa.int64())
        if pt.is_integer(values.type):
            return self._whole(plain_ids(values))
        encoded = values if pt.is_dictionary(values.type) else values.dictionary_encode()
        codes, different = _numbered(encoded.indices), plain_ids(encoded.dictionary)
        if pt.is_dictionary(values.type):
            again = different.dictionary_encode()
            if len(again.dictionary) < len(different):  # a file may number null among its values, or a value twice
                codes = np.append(_numbered(again.indices), np.int32(-1))[codes]
                different = again.dictionary
        return codes, different

    def _whole(self, values: pa.Array) -> tuple[NDArray[np.int32], pa.Array]:
        missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
        whole = (values if missing is None else pc.fill_null(values, 0)).to_numpy(zero_copy_only=False)
        places = self.known.get_indexer(whole) if len(self.known) else np.full(len(whole), -1, dtype=np.int64)
        new = np.flatnonzero(places < 0)
        fresh = np.empty(0, dtype=np.int64)
        if len(new):
            numbered, fresh = pd.factorize(whole[new])
            places[new] = numbered + len(self.known)
        if missing is not None:
            places[missing] = -1
        every = np.concatenate([self.known.to_numpy(), fresh])
        used = np.bincount(places + 1, minlength=len(every) + 1)[1:] > 0
        if len(new) >= _NEW_ENOUGH * len(whole) and len(every) <= _MOST_KNOWN:
            self.known = pd.Index(every)
        if used.all():
            return places.astype(np.int32), pa.array(every)
        local = np.append(np.cumsum(used, dtype=np.int32) - 1, np.int32(-1))
        return np.take(local, places, mode="wrap"), pa.array(every[used])


def _numbered(indices: pa.Array) -> NDArray[np.int32]:
    """The indices of a dictionary array, -1 for null; a file may hold unsigned ones."""
    found: NDArray[np.int32] = pc.fill_null(indices.cast(pa.int32()), -1).to_numpy(zero_copy_only=False)
    return found


def narrow(codes: NDArray[np.int32], num: int) -> Codes:
    """The codes of `num` values in 8, 16 or 32 bits."""
    kind = np.int8 if num <= 2**7 else np.int16 if num <= 2**15 else np.int32
    return codes.astype(kind, copy=False)


def narrow_numbers(numbers: NDArray[np.float64]) -> NDArray[np.floating]:
    """The numbers in 32 bits where that loses nothing, as it does not for fractions as `columns.numbers` gives them."""
    with np.errstate(over="ignore"):
        half = numbers.astype(np.float32)
    return half if ((half == numbers) | np.isnan(numbers)).all() else numbers

"""Values to codes: every column of a segment as small whole numbers beside the list of its different values."""

from __future__ import annotations

from dataclasses import dataclass

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
_MOST_GUESSED = 100_000  # values above which a table of guesses leaves the cache
_SLOTS_PER_VALUE = 8
_CHUNK = 32_768  # so that the steps of a look-up stay in the cache
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio
Codes = NDArray[np.signedinteger]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """codes: [n] for each place, -1 where there is no value. values: [d] the different plain values that they number.

    counts: [d] how often each of them came, over all places. There is one place without a width, else as many as the
    longest list has, up to the width.
    """

    codes: list[Codes]
    values: pa.Array
    counts: Ints


class Known:
    """Different whole numbers, and the place of each: a guess by one multiplication, pandas' hash table where it fails.

    >>> Known(np.array([70, -5, 9])).places(np.array([9, 9, 8, 70])).tolist()
    [2, 2, -1, 0]
    """

    def __init__(self, values: Ints) -> None:
        self.values, self._index = values, pd.Index(values)
        self._slots = np.zeros(0, dtype=np.int32)
        if 0 < len(values) <= _MOST_GUESSED:
            bits = (_SLOTS_PER_VALUE * len(values)).bit_length()
            self._shift = np.uint64(64 - bits)
            self._slots = np.zeros(1 << bits, dtype=np.int32)
            first_wins = np.arange(len(values))[::-1]  # those that come first tend to come often
            self._slots[self._slot(values[first_wins])] = first_wins

    def __len__(self) -> int:
        return len(self.values)

    def _slot(self, wanted: Ints) -> Ints:
        return (wanted.view(np.uint64) * _ODD >> self._shift).view(np.int64)

    def places(self, wanted: Ints) -> NDArray[np.int32]:
        """[n] the place of each, -1 for those that are none of the values."""
        out = np.full(len(wanted), -1, dtype=np.int32)
        if not len(self._slots):
            return self._index.get_indexer(wanted).astype(np.int32) if len(self) else out
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            guess = np.take(self._slots, self._slot(part), mode="clip", out=out[start : start + _CHUNK])
            wrong = np.flatnonzero(np.take(self.values, guess, mode="clip") != part)
            if len(wrong):
                guess[wrong] = self._index.get_indexer(part[wrong])
        return out


class Coder:
    """Codes of one source, segment after segment. It remembers whole numbers, since most of them come again.

    What it remembers makes it faster and changes nothing that it returns but the order of the values.
    """

    def __init__(self, width: int | None) -> None:
        self.width = width
        self.known = Known(np.empty(0, dtype=np.int64))

    def __call__(self, values: pa.Array) -> Coded:
        """The codes of a column or, with a width, of the first so many elements of its lists.

        >>> coded = Coder(2)(pa.array([["b", "a", "c"], [], None, ["a"]]))
        >>> [place.tolist() for place in coded.codes], coded.values.to_pylist(), coded.counts.tolist()
        ([[0, -1, -1, 1], [1, -1, -1, -1]], ['b', 'a'], [1, 2])
        """
        if self.width is None:
            codes, different, counts = self._coded(values)
            return Coded(codes=[narrow(codes, len(different))], values=different, counts=counts)
        row, place, flat = listed(values, self.width)
        found, different, counts = self._coded(flat)
        out = np.full((int(place.max(initial=-1)) + 1, len(values)), -1, dtype=np.int32)
        out[place, row] = found
        return Coded(codes=[narrow(codes, len(different)) for codes in out], values=different, counts=counts)

    def _coded(self, values: pa.Array) -> tuple[NDArray[np.int32], pa.Array, Ints]:
        if pt.is_null(values.type):
            return np.full(len(values), -1, dtype=np.int32), pa.array([], pa.int64()), np.empty(0, dtype=np.int64)
        if pt.is_integer(values.type):
            return self._whole(plain_ids(values))
        encoded = values if pt.is_dictionary(values.type) else values.dictionary_encode()
        codes, different = _numbered(encoded.indices), plain_ids(encoded.dictionary)
        if pt.is_dictionary(values.type):
            again = different.dictionary_encode()
            if len(again.dictionary) < len(different):  # a file may number null among its values, or a value twice
                codes = np.append(_numbered(again.indices), np.int32(-1))[codes]
                different = again.dictionary
        return codes, different, count_codes(codes, len(different))

    def _whole(self, values: pa.Array) -> tuple[NDArray[np.int32], pa.Array, Ints]:
        missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
        whole = (values if missing is None else pc.fill_null(values, 0)).to_numpy(zero_copy_only=False)
        places, every = self.known.places(whole), self.known.values
        new = np.flatnonzero(places < 0)
        if len(new):
            numbered, fresh = pd.factorize(whole[new])
            places[new] = numbered + len(every)
            every = np.concatenate([every, fresh])
        if missing is not None:
            places[missing] = -1
        counts = count_codes(places, len(every))
        if len(new) >= _NEW_ENOUGH * len(whole) and len(every) <= _MOST_KNOWN:
            self.known = Known(every)
        used = counts > 0
        if used.all():
            return places, pa.array(every), counts
        local = np.append(np.cumsum(used, dtype=np.int32) - 1, np.int32(-1))
        return np.take(local, places, mode="wrap"), pa.array(every[used]), counts[used]


def count_codes(codes: Codes, num: int) -> Ints:
    """[num] how often each code stands; -1 is none.

    >>> count_codes(np.array([2, -1, 0, 2], dtype=np.int8), 4).tolist()
    [1, 0, 2, 0]
    """
    if len(codes) and codes.min() < 0:
        codes = codes[codes >= 0]
    return np.bincount(codes, minlength=num)


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

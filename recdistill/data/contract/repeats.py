"""Events in time and out of it: keys of events, repeated events, events out of order or in the future."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.config.data import Contract
from recdistill.data.contract.outside import NONE, Places
from recdistill.data.log.values import stable_key

Ints = NDArray[np.int64]

_NULL = np.uint64(0xA0761D6478BD642F)  # odd, so that no null looks like the id 0, whose key is 0
_BINS = 4096  # of keys, by their first 12 bits


def event_key(table: pa.Table, columns: Sequence[str]) -> Ints:
    """[n] a 64-bit key of these columns, the same on every machine and in every run; null is a value like others.

    Two different events share a key with a chance of 2^-64: among a billion events, of about 3 in a hundred.
    """
    keys = np.zeros(table.num_rows, dtype=np.uint64)
    for name in columns:
        values = table.column(name).combine_chunks()
        values = values.dictionary_decode() if pt.is_dictionary(values.type) else values
        part = np.full(len(values), _NULL)
        part[values.is_valid().to_numpy(zero_copy_only=False)] = _plain_key(values.drop_null())
        keys = pd.util.hash_array(keys + part)
    return keys.view(np.int64)


def _plain_key(values: pa.Array) -> NDArray[np.uint64]:
    if pt.is_date(values.type):
        values = values.view(pa.int32() if pt.is_date32(values.type) else pa.int64())
    return stable_key(values).view(np.uint64)


def repeats(keys: Sequence[Ints], most: int = 4_000_000) -> list[Places]:
    """Per segment, the places that repeat a key of an earlier place or segment; the first one is none of them.

    Looks at the keys range by range, so that about `most` of them are held and sorted at once (more only where more
    than `most` different keys share their first 12 bits, or every segment has the same ones).

    >>> [places.tolist() for places in repeats([np.array([3, 5, 3]), np.array([7, 5])])]
    [[2], [1]]
    """
    counts = np.zeros(_BINS, dtype=np.int64)
    for part in keys:
        counts += np.bincount(_bin(part), minlength=_BINS)
    found: list[list[Places]] = [[] for _ in keys]
    for first, last in _ranges(counts, most):
        seen: list[tuple[Ints, Places]] = []
        for number, part in enumerate(keys):
            inside = _inside(part, first, last)
            values, at = np.unique(part[inside], return_index=True)
            seen.append((values, inside[at]))
            found[number].append(np.delete(inside, at))
        for number, again in enumerate(_seen_before([values for values, _ in seen])):
            found[number].append(seen[number][1][again])
    return [np.sort(np.concatenate([NONE, *places])) for places in found]


def _bin(part: Ints) -> Ints:
    return (np.asarray(part) >> 52) + _BINS // 2


def _inside(part: Ints, first: int, last: int) -> Places:
    if (first, last) == (0, _BINS):
        return np.arange(len(part))
    bins = _bin(part)
    return np.flatnonzero((bins >= first) & (bins < last))


def _ranges(counts: Ints, most: int) -> list[tuple[int, int]]:
    """Consecutive bins [first, last) that hold at most `most` keys together, or are one bin."""
    ranges, first, held = [], 0, 0
    for number, count in enumerate(counts.tolist()):
        if held + count > most and number > first:
            ranges.append((first, number))
            first, held = number, 0
        held += count
    return [*ranges, (first, _BINS)]


def _seen_before(parts: Sequence[Ints]) -> list[NDArray[np.bool_]]:
    """Per part, which of its keys, each there once, are also in an earlier part."""
    every = np.concatenate(parts) if parts else NONE
    order = np.argsort(every, kind="stable")
    again = np.zeros(len(every), dtype=bool)
    again[order[1:]] = every[order[1:]] == every[order[:-1]]
    return np.split(again, np.cumsum([len(part) for part in parts])[:-1]) if parts else []


def out_of_order(time: Ints, before: int | None) -> Places:
    """Places of times earlier than one before them, or than `before`: the latest of the file so far, None at its start.

    >>> out_of_order(np.array([4, 6, 5, 6, 3]), 5).tolist()
    [0, 2, 4]
    """
    if not len(time):
        return NONE
    latest = np.maximum.accumulate(time if before is None else np.maximum(time, before))
    return np.flatnonzero(time < latest)


def in_the_future(time: Ints, clock_us: int, contract: Contract) -> Places:
    """Places of times later than the clock by more than contract.max_future, in UTC microseconds."""
    if contract.max_future is None:
        return NONE
    return np.flatnonzero(time > clock_us + contract.max_future // timedelta(microseconds=1))

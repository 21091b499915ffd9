"""Bins of every feature, cut once on the train window: how many rows of any window and partition fall into each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.data.store import Rows
from recdistill.data.tables import splitmix
from recdistill.types import ABSENT, OOV, IdFeature

MISSING, UNKNOWN, FIRST_BIN = 0, 1, 2  # of every feature: bin 0 is absent, bin 1 out of vocabulary
NUM_TOP = 20
NUM_QUANTILES = 10
ZERO_SHARE = 0.01
ROWS_TO_CUT = 200_000
ROWS_TO_COUNT = 250_000  # of a window: more would tell nothing more
_CHUNK = 32_768

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]
Seen = tuple[Ints | None, NDArray[np.integer[Any]]]  # per observation its row, None for one a row, and its bin


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """One feature's bins. size: how many; has_unknown: whether a value can be out of vocabulary.

    place: ids [n, K] and dense [n, D] of some rows -> what is seen of the feature there.
    """

    name: str
    size: int
    has_unknown: bool
    place: Callable[[Ints, Floats], Seen]


def cut(train: Rows) -> list[Bins]:
    """The bins of every feature, cut on about 200,000 rows of the train window.

    A single id, a bag's values and a history's newest id: one bin for each of the 20 most frequent values, one for the
    rest; a bag is seen once for each of its values. A history's length: 0, 1, 2-3, 4-7, 8-15 and so on. A number: ten
    bins of equal size; where more than 1% are exactly 0, which is also how a missing one is written, 0 is "absent".
    """
    index = sample(train, ROWS_TO_CUT)
    blocks: dict[str, list[NDArray[np.int32]]] = {feature.name: [] for feature in train.layout.ids}
    for part in parts(index):
        ids = train.ids(part)
        for feature in train.layout.ids:
            blocks[feature.name].append(ids[:, now(feature)].astype(np.int32))
    found = [_id_bins(feature, np.concatenate(blocks[feature.name]).ravel()) for feature in train.layout.ids]
    if train.layout.histories:
        found.append(_length_bins(train.layout.histories[0]))
    dense = train.dense(index)
    return found + [_dense_bins(name, place, dense[:, place]) for place, name in enumerate(train.layout.dense)]


def now(feature: IdFeature) -> slice:
    """Its columns, of a history the newest alone."""
    return slice(feature.start, feature.start + 1) if feature.kind == "history" else feature.columns


def sample(rows: Rows, most: int) -> Ints:
    """Ascending places of all rows or, of more than `most`, of about `most`: those whose row_id has a small hash.

    The same rows are taken in whatever order the window holds them.
    """
    if len(rows) <= most:
        return np.arange(len(rows))
    limit = np.uint64(int(most / len(rows) * 2**64))
    row_id, taken = rows["row_id"], []
    for start in range(0, len(rows), _CHUNK):
        hashed = splitmix(np.ascontiguousarray(row_id[start : start + _CHUNK]).view(np.uint64))
        taken.append(np.flatnonzero(hashed < limit) + start)
    return np.concatenate(taken)


def parts(index: Ints) -> Iterator[Ints]:
    """The places in runs that fit into memory."""
    return (index[start : start + _CHUNK] for start in range(0, len(index), _CHUNK))


def observed(block: Ints) -> tuple[Ints, Ints]:
    """[n, width] 0-padded ids -> row and id of every observation; a row without ids is one observation of "absent".

    >>> row, value = observed(np.array([[5, 7], [0, 0], [6, 0]]))
    >>> row.tolist(), value.tolist()
    ([0, 0, 1, 2], [5, 7, 0, 6])
    """
    there = block != ABSENT
    there[:, 0] |= ~there.any(axis=1)
    row, column = np.nonzero(there)
    return row, block[row, column]


def _id_bins(feature: IdFeature, values: NDArray[np.integer[Any]]) -> Bins:
    count = np.bincount(values, minlength=feature.num_rows)
    count[[ABSENT, OOV]] = 0
    top = np.argsort(-count, kind="stable")[: min(NUM_TOP, np.count_nonzero(count))]
    rest = FIRST_BIN + len(top)
    bin_of = np.full(feature.num_rows, rest, dtype=np.int8)
    bin_of[top] = np.arange(FIRST_BIN, rest)
    bin_of[[ABSENT, OOV]] = MISSING, UNKNOWN

    def place(ids: Ints, dense: Floats) -> Seen:
        if feature.kind != "bag":
            return None, bin_of[ids[:, feature.start]]
        row, value = observed(ids[:, feature.columns])
        return row, bin_of[value]

    return Bins(name=feature.name, size=rest + 1, has_unknown=True, place=place)


def _length_bins(feature: IdFeature) -> Bins:
    steps = np.arange(feature.width + 1)
    bin_of = np.where(steps == 0, MISSING, FIRST_BIN + np.floor(np.log2(np.maximum(steps, 1))).astype(np.int64))

    def place(ids: Ints, dense: Floats) -> Seen:
        return None, bin_of[(ids[:, feature.columns] != ABSENT).sum(axis=1)]

    return Bins(name=f"{feature.name} (length)", size=int(bin_of.max()) + 1, has_unknown=False, place=place)


def _dense_bins(name: str, column: int, values: Floats) -> Bins:
    own_zero = len(values) > 0 and float((values == 0).mean()) > ZERO_SHARE
    kept = values[values != 0] if own_zero else values
    shares = np.linspace(0, 1, NUM_QUANTILES + 1)[1:-1]
    edges = np.unique(np.quantile(kept, shares)) if len(kept) else np.empty(0)

    def place(ids: Ints, dense: Floats) -> Seen:
        numbers = dense[:, column]
        bins = FIRST_BIN + below(edges, numbers)
        return None, np.where(numbers == 0, MISSING, bins) if own_zero else bins

    return Bins(name=name, size=FIRST_BIN + len(edges) + 1, has_unknown=False, place=place)


def below(edges: Floats, numbers: Floats) -> NDArray[np.int8]:
    """[n] how many of the edges, up to 127 of them, lie below each number: faster for so few than a search in each.

    >>> below(np.array([1.0, 2.0]), np.array([0.5, 1.0, 1.5, 9.0])).tolist()
    [0, 0, 1, 2]
    """
    wide, found = numbers.astype(np.float64, copy=False), np.zeros(len(numbers), dtype=np.int8)
    for edge in edges:
        found += wide > edge
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """A window counted. rows: [P] rows of each partition; bins: for each feature [P, size] weighted observations."""

    rows: Ints
    bins: list[NDArray[np.float64]]


def count(
    rows: Rows,
    bins: Sequence[Bins],
    partition_of: Callable[[Ints], Ints],
    num_partitions: int,
    negative_weight: float = 1.0,
) -> Counts:
    """About ROWS_TO_COUNT rows of a window counted, in bounded memory. negative_weight: of a row of label 0."""
    num_rows = np.zeros(num_partitions, dtype=np.int64)
    totals = [np.zeros((num_partitions, one.size)) for one in bins]
    for part in parts(sample(rows, ROWS_TO_COUNT)):
        partition = partition_of(rows["row_id"][part])
        first, stop = int(partition.min()), int(partition.max()) + 1  # a run of a log holds few of its partitions
        partition = partition - first
        num_rows[first:stop] += np.bincount(partition, minlength=stop - first)
        weight = None if negative_weight == 1 else np.where(rows["label"][part] == 0, negative_weight, 1.0)
        ids, dense = rows.ids(part), rows.dense(part)
        for one, total in zip(bins, totals, strict=True):
            row, place = one.place(ids, dense)
            cell = (partition if row is None else partition[row]) * one.size + place
            of_each = weight if weight is None or row is None else weight[row]
            total[first:stop] += np.bincount(cell, of_each, (stop - first) * one.size).reshape(-1, one.size)
    return Counts(rows=num_rows, bins=totals)

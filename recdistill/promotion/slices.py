"""Slices of the test window: new and heavy users, cold items and the tail, hours, and the values of any feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.data.encoder import Encoder
from recdistill.data.store import Rows
from recdistill.data.tables import Vocabulary
from recdistill.types import ABSENT, FIRST_KNOWN, OOV, IdFeature

Mask = NDArray[np.bool_]
Slice = tuple[str, Mask]
_HEAVY = 0.9  # a heavy user has more rows than this share of the train window's users
_COLD_ROWS = 5  # a cold item has fewer rows in the train window
_TAIL = 0.2  # the least popular items that together have this share of the train window's rows
_MOST_VALUES = 20
_HOUR_US = 3_600_000_000


def slices(names: Sequence[str], encoder: Encoder, train: Rows, test: Rows) -> list[Slice]:
    """(title, [N] whether a row of the test window is in it) for all that the names stand for, in their order.

    A name is new_users (without a row in the train window), heavy_users (in the top tenth by rows there), cold_items
    (fewer than 5 rows there), tail (the least popular items, with a fifth of its rows together), hour (of the day in
    UTC, 24 slices), an id feature (its 20 most frequent values and the rest) or a number (its quarters).
    """
    return [found for name in names for found in _named(name, encoder, train, test)]


def _named(name: str, encoder: Encoder, train: Rows, test: Rows) -> Iterator[Slice]:
    if name in ("new_users", "heavy_users"):
        yield name, _rows_of_user(train, test, heavy=name == "heavy_users")
    elif name in ("cold_items", "tail"):
        yield name, _of_items(name, train, test)
    elif name == "hour":
        hour = test["time"] // _HOUR_US % 24
        yield from ((f"hour {value:02d}", hour == value) for value in np.unique(hour))
    elif name in test.layout.dense:
        yield from _quarters(name, test["dense"][:, test.layout.dense.index(name)])
    else:
        feature = next(feature for feature in test.layout.pooled if feature.name == name)
        yield from _values(feature, encoder, test)


def _rows_of_user(train: Rows, test: Rows, *, heavy: bool) -> Mask:
    known, counts = np.unique(train["user"], return_counts=True)
    place = np.searchsorted(known, test["user"]).clip(max=len(known) - 1)
    num_N = np.where(known[place] == test["user"], counts[place], 0)
    mask: Mask = num_N > np.quantile(counts, _HEAVY) if heavy else num_N == 0
    return mask


def _of_items(name: str, train: Rows, test: Rows) -> Mask:
    item = test.layout.target
    assert item is not None, "the config was checked"
    counts = np.bincount(train["ids"][:, item.start], minlength=item.num_rows)
    counts[[ABSENT, OOV]] = 0
    order = np.argsort(counts, kind="stable")
    tail = np.zeros(item.num_rows, dtype=bool)
    tail[order[np.cumsum(counts[order]) <= _TAIL * counts.sum()]] = True
    wanted = tail if name == "tail" else counts < _COLD_ROWS
    mask: Mask = wanted[test["ids"][:, item.start]]
    return mask


def _quarters(name: str, value_N: NDArray[np.float32]) -> Iterator[Slice]:
    edges = np.unique(np.quantile(value_N, [0.25, 0.5, 0.75]))
    quarter = np.searchsorted(edges, value_N, side="right")
    for place in np.unique(quarter):
        mask: Mask = quarter == place
        yield f"{name} part {place + 1} of {len(edges) + 1}", mask


def _values(feature: IdFeature, encoder: Encoder, test: Rows) -> Iterator[Slice]:
    ids: NDArray[np.integer[Any]] = test["ids"][:, feature.columns]
    values, counts = np.unique(ids if feature.kind == "single" else ids[ids != ABSENT], return_counts=True)
    often = values[np.argsort(-counts, kind="stable")][:_MOST_VALUES]
    rest = np.setdiff1d(values, often)
    for value in often:
        yield f"{feature.name} {_title(feature, encoder, int(value))}", _any(ids == value)
    if len(rest):
        yield f"{feature.name}, the rest", _any(np.isin(ids, rest))


def _any(mask_NK: Mask) -> Mask:
    return np.logical_or.reduce(mask_NK, axis=1)


def _title(feature: IdFeature, encoder: Encoder, value: int) -> str:
    table = encoder.tables[feature.table]
    if value in (ABSENT, OOV):
        return "absent" if value == ABSENT else "unknown"
    return str(table.values[value - FIRST_KNOWN]) if isinstance(table, Vocabulary) else f"id {value}"

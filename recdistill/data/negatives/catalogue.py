"""What a log of positives knew of its items in every hour, and which items each request acted on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.config.data import Data
from recdistill.data.columns import column
from recdistill.data.log.values import microseconds, stable_key
from recdistill.data.raw import in_window
from recdistill.data.tables import splitmix

POSITIVE = "positive"
HOUR_US = 3_600_000_000
_PERIOD_HOURS = {"hour": 1, "day": 24}
_SHARE = 1 << 20  # of a session's one vote; whole numbers, so that a window moves back and forth without rounding
_PENDING = 1 << 20

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Positives:
    """n rows that have a time, a request and an item. row: numbers in the log. place: in the table they come from.

    time: UTC microseconds. hour: since 1970. item, request: stable keys.
    """

    row: Ints
    place: Ints
    time: Ints
    hour: Ints
    item: Ints
    request: Keys


def written(data: Data, table: pa.Table) -> NDArray[np.bool_]:
    """[n] whether a row is of the data window; one without a time is, for the contract to see it."""
    times = column(table, data.time)
    inside = np.ones(len(table), dtype=bool)
    valid = times.is_valid().to_numpy(zero_copy_only=False)
    inside[valid] = in_window(data, microseconds(times.drop_null(), data.time_unit))
    return inside


def positives(data: Data, table: pa.Table, first: int) -> Positives:
    """The usable rows of a table whose first row has this number: written ones, without nulls where it matters."""
    assert data.negatives is not None
    by = data.request.column
    whose = [data.user] if by is None else [] if by == POSITIVE else [by]
    usable = written(data, table)
    for name in (data.time, data.negatives.item, *whose):
        usable &= column(table, name).is_valid().to_numpy(zero_copy_only=False)
    place = np.flatnonzero(usable)
    table = table.select(list(dict.fromkeys([data.time, data.negatives.item, *whose]))).take(pa.array(place))
    time = microseconds(column(table, data.time), data.time_unit)
    request = (place + first if by == POSITIVE else stable_key(column(table, whose[0]))).view(np.uint64)
    if data.request.user_every is not None:
        period = time // HOUR_US // _PERIOD_HOURS[data.request.user_every]
        request = splitmix(request ^ splitmix(period.view(np.uint64)))
    item = stable_key(column(table, data.negatives.item))
    return Positives(row=place + first, place=place, time=time, hour=time // HOUR_US, item=item, request=request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sights:
    """Items by hour. time, row: of the last event; num: of events; values: the item's columns at the last event."""

    item: Ints
    hour: Ints
    time: Ints
    row: Ints
    num: Ints
    values: pa.Table

    @classmethod
    def of(cls, rows: Positives, values: pa.Table) -> Self:
        """Every row on its own."""
        num = np.ones(len(rows.row), dtype=np.int64)
        return cls(item=rows.item, hour=rows.hour, time=rows.time, row=rows.row, num=num, values=values)

    @classmethod
    def merged(cls, parts: Iterable[Self]) -> Self:
        """One entry for every item and hour, in order of item and hour; whatever the parts were."""
        found = list(parts)
        names = ("item", "hour", "time", "row", "num")
        item, hour, time, row, num = (np.concatenate([getattr(part, name) for part in found]) for name in names)
        order = np.lexsort((row, time, hour, item))
        first = np.flatnonzero(_begins(item[order], hour[order]))
        last = order[np.append(first, len(order))[1:] - 1]
        values = pa.concat_tables([part.values for part in found]).take(pa.array(last)).combine_chunks()
        total = np.add.reduceat(num[order], first) if len(first) else num
        return cls(item=item[last], hour=hour[last], time=time[last], row=row[last], num=total, values=values)


def _begins(*sorted_keys: NDArray[np.generic]) -> NDArray[np.bool_]:
    """[n] where a new combination begins."""
    new = np.zeros(max(0, len(sorted_keys[0]) - 1), dtype=bool)
    for key in sorted_keys:
        new |= key[1:] != key[:-1]
    return np.concatenate([np.ones(min(1, len(sorted_keys[0])), dtype=bool), new])


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """p entries, one for each item and hour in which it occurred, in order of both.

    items: the keys of all items, ascending; an item's code is its place. code, hour, weight: [p]. values: p rows of
    the item's columns as of that hour. taken: a key for every request and item of it, ascending. largest: the most
    different items of one request.
    """

    items: Ints
    code: Ints
    hour: Ints
    weight: Ints
    values: pa.Table
    taken: Keys
    largest: int

    def codes(self, item: Ints) -> Ints:
        """[n] codes of items that are there."""
        return np.searchsorted(self.items, item)

    def is_taken(self, request: Keys, code: Ints) -> NDArray[np.bool_]:
        """[n] whether the request acted on the item at any time, later ones included."""
        key = _pair(request, self.items[code])
        place = np.minimum(np.searchsorted(self.taken, key), len(self.taken) - 1)
        return self.taken[place] == key

    def entry_before(self, code: Ints, hour: Ints) -> Ints:
        """[n] the entry of the last hour before this one in which the item occurred."""
        first, width = self.hour.min(), np.ptp(self.hour) + 2
        key = self.code * width + (self.hour - first)
        return np.searchsorted(key, code * width + np.clip(hour - first, 0, width - 1)) - 1


def _pair(request: Keys, item: Ints) -> Keys:
    return splitmix(request ^ splitmix(item.view(np.uint64)))


class Survey:
    """Takes the positives of a log, in any order and any pieces, and makes their catalogue.

    Memory: an entry for every item and hour, and 24 bytes for every positive.
    """

    def __init__(self) -> None:
        self._sights: list[Sights] = []
        self._pending = 0
        self._seen: list[tuple[Keys, Ints, Ints]] = []

    def add(self, rows: Positives, values: pa.Table) -> None:
        """values: the item's columns of these rows."""
        self._sights.append(Sights.of(rows, values))
        self._seen.append((rows.request, rows.item, rows.hour))
        self._pending += len(rows.row)
        if self._pending > _PENDING:
            self._sights, self._pending = [Sights.merged(self._sights)], 0

    def finish(self, *, votes: bool) -> Catalogue:
        """votes: an entry weighs what sessions gave it, one vote a session and hour, instead of its events."""
        sights = Sights.merged(self._sights)
        request, item, hour = (np.concatenate(column) for column in zip(*self._seen, strict=True))
        self._seen.clear()
        order = np.lexsort((item, request))
        distinct = order[_begins(request[order], item[order])]
        _, per_request = np.unique(request[distinct], return_counts=True)
        items = np.unique(sights.item)
        return Catalogue(
            items=items,
            code=np.searchsorted(items, sights.item),
            hour=sights.hour,
            weight=_votes(request, item, hour) if votes else sights.num,
            values=sights.values,
            taken=np.sort(_pair(request[distinct], item[distinct])),
            largest=int(per_request.max(initial=0)),
        )


def _votes(request: Keys, item: Ints, hour: Ints) -> Ints:
    """[p] for every item and hour, in order of both: the sum over its sessions of 1 / items of the session then."""
    table = pd.DataFrame({"request": request, "hour": hour, "item": item}).drop_duplicates()
    table["share"] = _SHARE // table.groupby(["request", "hour"])["item"].transform("size")
    return table.groupby(["item", "hour"], sort=True)["share"].sum().to_numpy(dtype=np.int64)

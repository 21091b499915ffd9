"""A log generator with a planted truth: tastes that drift, popular and newborn items, sessions, noisy clicks; any size.

Memory does not grow with the rows: a part of a day is drawn, counted and written before the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.data.synth.files import MADE_BY, MAX_DICTIONARY, TRUTH, refuse_others, write_parts
from recdistill.data.synth.requests import Requests, requests_of_day
from recdistill.data.synth.truth import Tally, logits
from recdistill.data.synth.world import CATEGORIES, COUNTRIES, Planted, World, cells, plant, popular, relevance_of
from recdistill.files import whole_folder, write_json
from recdistill.problems import BadInput, problem

__all__ = ["World", "synth"]

_FIRST_DAY = np.datetime64("2026-01-01", "us")
_DAY_US = 86_400_000_000
_ROWS_PER_CHUNK = 50_000
_COLUMNS = [
    ("user_id", pa.int64()),
    ("item_id", pa.int64()),
    ("categories", pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    ("country", pa.dictionary(pa.int8(), pa.string())),
    ("price", pa.float64()),
    ("timestamp", pa.timestamp("us", tz="UTC")),
    ("session_id", pa.int64()),
    ("request_id", pa.int64()),
    ("position", pa.int16()),
    ("clicked", pa.int8()),
    ("dwell_s", pa.float32()),
]
_REPEATING = [
    *("user_id", "categories.list.element", "country", "timestamp"),
    *("session_id", "request_id", "position", "clicked"),
]


def synth(folder: Path, num_rows: int, world: World, *, with_truth: bool = False) -> int:
    """Write day=YYYY-MM-DD/part-0000.parquet and on under `folder`, whole or not at all; returns the number of rows.

    Columns: user_id, item_id, categories (list), country, price, timestamp, session_id, request_id, position (from 1),
    clicked, dwell_s (exp(3 + z/2 + 0.8 e) seconds with e standard normal, null where not clicked); with `with_truth`
    also true_logit, the log-odds that the click was drawn with: never a feature. Rows are in order of time. The ceiling
    is left beside them in _truth.json. BadInput where the folder is something else than a generated log.
    """
    refuse_others(folder)
    if num_rows < 1:
        raise BadInput(problem("rows", wanted="1 or more", found=str(num_rows), remedy="ask for more rows"))
    planted = plant(world)
    tally = Tally(planted.probability)
    requests_per_day = -(-num_rows // (world.num_days * world.candidates))
    dictionary = [*_REPEATING, *(["item_id", "price"] if world.num_items <= MAX_DICTIONARY else [])]
    written = 0
    with whole_folder(folder, MADE_BY) as unfinished:
        for day in range(world.num_days):
            date = str((_FIRST_DAY + day * _DAY_US).astype("datetime64[D]"))
            rows = _Day(world, planted, tally, day, requests_per_day, with_truth)
            written += write_parts(unfinished / f"day={date}", rows.tables(), dictionary)
        write_json(unfinished / TRUTH, {"world": asdict(world), **tally.to_json()})
    return written


class _Day:
    """Draws a day's rows; each kind of draw has its own stream, so that the chunks' size changes nothing."""

    def __init__(
        self, world: World, planted: Planted, tally: Tally, day: int, num_requests: int, with_truth: bool
    ) -> None:
        self.world, self.planted, self.tally, self.day = world, planted, tally, day
        self.num_requests = num_requests
        self.shelf = planted.shelf(day)
        self.what, self.coin, self.dwell = (np.random.default_rng([world.seed, 1, day, stream]) for stream in (4, 5, 6))
        self.probability = planted.probability.reshape(-1).astype(np.float32)
        self.true_logit = logits(planted.probability) if with_truth else None
        self.schema = pa.schema([*_COLUMNS, *([("true_logit", pa.float32())] if with_truth else [])])

    def tables(self) -> Iterator[pa.Table]:
        """All rows in order of time, counted in the tally."""
        size = max(1, _ROWS_PER_CHUNK // self.world.candidates)
        for requests in requests_of_day(self.day, self.num_requests, self.world.num_users, self.world.seed, size):
            for part in requests.cut(size):
                yield self._table(part)

    def _table(self, requests: Requests) -> pa.Table:
        planted, num_requests, width = self.planted, len(requests.user), self.world.candidates
        item = self.shelf[popular(self.what.random(num_requests * width), len(self.shelf))]
        where = (self.day + requests.time / _DAY_US) / self.world.num_days  # in [0, 1) of the log's time
        cell = cells(self._relevance(requests.user, where, item))
        position = np.tile(np.arange(width, dtype=np.int16), num_requests)
        place = cell * np.int32(width) + position
        clicked = self.coin.random(len(place), dtype=np.float32) < self.probability[place]
        self.tally.add(place, clicked, int(np.searchsorted(where, 0.9)) * width)
        moment = (_FIRST_DAY.astype(np.int64) + self.day * _DAY_US) + requests.time
        columns = {
            "user_id": np.repeat(requests.user, width),
            "item_id": item.astype(np.int64),
            "categories": _pairs(planted.category[item]),
            "country": _named(np.repeat(planted.country[requests.user], width), COUNTRIES),
            "price": planted.price[item],
            "timestamp": pa.array(np.repeat(moment, width)).cast(pa.timestamp("us", tz="UTC")),
            "session_id": np.repeat(requests.session, width),
            "request_id": np.repeat(self.day * self.num_requests + requests.number, width),
            "position": position + np.int16(1),
            "clicked": clicked.view(np.int8),
            "dwell_s": self._dwell(cell, clicked),
        }
        if self.true_logit is not None:
            columns["true_logit"] = self.true_logit[place]
        return pa.table(columns, schema=self.schema)

    def _relevance(
        self, user: NDArray[np.int64], where: NDArray[np.float64], item: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """[requests * candidates] relevance before rounding. user, where: [requests]."""
        aside = (where - 0.5).astype(np.float32)
        total = self.planted.quality[item].reshape(len(user), -1)
        total += (np.float32(self.world.base_drift) * aside)[:, None]
        for taste, drift, factor in zip(self.planted.taste, self.planted.drift, self.planted.item, strict=True):
            total += (taste[user] + drift[user] * aside)[:, None] * factor[item].reshape(total.shape)
        return total.reshape(-1)

    def _dwell(self, cell: NDArray[np.int32], clicked: NDArray[np.bool_]) -> pa.Array:
        seconds = np.zeros(len(cell), dtype=np.float32)
        drawn = self.dwell.standard_normal(int(clicked.sum()), dtype=np.float32) * np.float32(0.8)
        seconds[clicked] = np.exp(drawn + (3 + relevance_of(cell[clicked]) / 2).astype(np.float32))
        return pa.array(seconds, mask=~clicked)


def _named(codes: NDArray[np.int8], names: tuple[str, ...]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(codes, pa.array(names))


def _pairs(codes: NDArray[np.int8]) -> pa.ListArray:
    """codes: [n, 2]."""
    offsets = np.arange(0, codes.size + 1, 2, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, _named(codes.reshape(-1), CATEGORIES))

"""A log generator with a planted truth: tastes that drift, popular items, noisy clicks; any size in constant memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recdistill.files import whole_folder

_FIRST_DAY = np.datetime64("2026-01-01", "us")
_DAY_US = 86_400_000_000
_CATEGORIES = ("books", "films", "games", "garden", "kitchen", "music", "sport", "toys", "tools", "travel")
_COUNTRIES = ("at", "be", "ch", "de", "dk", "es", "fr", "it", "nl", "pl", "pt", "se")
_ROWS_PER_CHUNK = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The planted truth. Sizes are counts; noise is the deviation of the logit's part that no feature explains."""

    num_users: int
    num_items: int
    num_days: int
    seed: int
    width: int = 4
    candidates: int = 12
    noise: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Truth:
    taste: NDArray[np.float64]  # [users, width]
    drift: NDArray[np.float64]  # [users, width], by which a taste moves over all days
    item: NDArray[np.float64]  # [items, width]
    quality: NDArray[np.float64]  # [items]
    popularity: NDArray[np.float64]  # [items], sums to 1
    category: NDArray[np.int64]  # [items, 2]
    price: NDArray[np.float64]  # [items]
    country: NDArray[np.int64]  # [users]


def synth(folder: Path, num_rows: int, world: World) -> int:
    """Write day=YYYY-MM-DD/part-0.parquet under `folder`, whole or not at all; returns the number of rows.

    Columns: user_id, item_id, categories (list), country, price, timestamp, request_id, clicked. The click's logit is
    taste . item + quality + noise, with a taste that moves from day to day: past clicks tell more than the user's id.
    """
    truth = _truth(world)
    per_day = -(-num_rows // world.num_days)
    requests_per_day = -(-per_day // world.candidates)
    written = 0
    with whole_folder(folder, {"made_by": "recdistill synth"}) as unfinished:
        for day in range(world.num_days):
            generator = np.random.default_rng([world.seed, 1, day])
            date = str((_FIRST_DAY + day * _DAY_US).astype("datetime64[D]"))
            path = unfinished / f"day={date}" / "part-0.parquet"
            path.parent.mkdir()
            with pq.ParquetWriter(path, _schema(), write_page_checksum=True) as writer:
                for first in range(0, requests_per_day, _ROWS_PER_CHUNK // world.candidates):
                    count = min(_ROWS_PER_CHUNK // world.candidates, requests_per_day - first)
                    table = _requests(world, truth, generator, day, first, count, requests_per_day)
                    writer.write_table(table)
                    written += table.num_rows
    return written


def _truth(world: World) -> _Truth:
    generator = np.random.default_rng([world.seed, 0])
    width, scale = world.width, world.width**-0.25
    category = np.stack([generator.integers(0, len(_CATEGORIES), world.num_items) for _ in range(2)], axis=1)
    centre = generator.normal(0, scale, (len(_CATEGORIES), width))
    item = centre[category].mean(axis=1) + 0.5 * generator.normal(0, scale, (world.num_items, width))
    popularity = 1 / (np.arange(world.num_items) + 10.0)
    generator.shuffle(popularity)
    country = generator.integers(0, len(_COUNTRIES), world.num_users)
    lean = generator.normal(0, 0.4 * scale, (len(_COUNTRIES), width))
    return _Truth(
        taste=lean[country] + generator.normal(0, 1.5 * scale, (world.num_users, width)),
        drift=generator.normal(0, 1.5 * scale, (world.num_users, width)),
        item=item,
        quality=generator.normal(0, 0.6, world.num_items),
        popularity=popularity / popularity.sum(),
        category=category,
        price=np.exp(generator.normal(3, 1, world.num_items)),
        country=country,
    )


def _schema() -> pa.Schema:
    return pa.schema(
        [
            ("user_id", pa.int64()),
            ("item_id", pa.int64()),
            ("categories", pa.list_(pa.string())),
            ("country", pa.string()),
            ("price", pa.float64()),
            ("timestamp", pa.timestamp("us", tz="UTC")),
            ("request_id", pa.int64()),
            ("clicked", pa.int8()),
        ]
    )


def _requests(
    world: World,
    truth: _Truth,
    generator: np.random.Generator,
    day: int,
    first: int,
    count: int,
    per_day: int,
) -> pa.Table:
    """`count` requests of one day from the `first` on, evenly spread over the day, as a table of their candidates."""
    user = np.repeat(generator.integers(0, world.num_users, count), world.candidates)
    item = generator.choice(world.num_items, count * world.candidates, p=truth.popularity)
    place = (day + np.arange(first, first + count) / per_day) / world.num_days
    taste = truth.taste[user] + truth.drift[user] * np.repeat(place - 0.5, world.candidates)[:, None]
    logit = (taste * truth.item[item]).sum(axis=1) + truth.quality[item] - 0.6
    logit += generator.normal(0, world.noise, len(logit))
    clicked = generator.random(len(logit)) < 1 / (1 + np.exp(-logit))
    moment = _FIRST_DAY.astype(np.int64) + (place * world.num_days * _DAY_US).astype(np.int64)
    names, offsets = (
        np.array(_CATEGORIES)[truth.category[item]],
        np.arange(0, 2 * len(item) + 1, 2, dtype=np.int32),
    )
    columns = {
        "user_id": user,
        "item_id": item,
        "categories": pa.ListArray.from_arrays(offsets, pa.array(names.reshape(-1))),
        "country": pa.array(np.array(_COUNTRIES)[truth.country[user]]),
        "price": truth.price[item],
        "timestamp": pa.array(np.repeat(moment, world.candidates)).cast(pa.timestamp("us", tz="UTC")),
        "request_id": np.repeat(day * per_day + np.arange(first, first + count), world.candidates),
        "clicked": pa.array(clicked.astype(np.int8)),
    }
    return pa.table(columns, schema=_schema())

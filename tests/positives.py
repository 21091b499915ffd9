"""A log of positives only, with what is known of it, and negatives drawn for it: for the tests of negatives."""

import numpy as np
import pandas as pd
import pyarrow as pa
from conftest import read_log, write_log

from recdistill.config.run import Run
from recdistill.data.log import listing
from recdistill.data.negatives.sampled import sampled_log

HOUR = 3_600_000_000

NUM_ITEMS = 12

WAYS = ["uniform", "popularity", "recent_popularity", "session"]


def log_of(num_rows=4000, num_hours=8, seed=0, **columns) -> pa.Table:
    """Events of sessions of 2 different items, all of one hour; the lower an item's number, the oftener it comes.

    price is 100 * item + hour; tags are the item as text, twice.
    """
    generator = np.random.default_rng(seed)
    sessions = num_rows // 2
    share = 1 / np.arange(1, NUM_ITEMS + 1)
    score = np.log(share) + generator.gumbel(size=(sessions, NUM_ITEMS))
    item = np.argsort(-score, axis=1)[:, :2].reshape(-1)
    session = np.repeat(np.arange(sessions), 2)
    hour = session * num_hours // sessions
    at = 470_000 * HOUR + hour * HOUR + np.sort(generator.integers(0, HOUR, 2 * sessions))
    made = {
        "user": session % 50,
        "session": session,
        "item": item,
        "tags": pa.array([[str(i)] * 2 for i in item]),
        "price": 100 * item + hour,
        "at": pa.array(at).cast(pa.timestamp("us", "UTC")),
    }
    return pa.table({**made, **columns})


def run_of(source, root, *, data=None, seed=0, **settings) -> Run:
    sampling = {"item": "item", "by": "popularity", "per_positive": 4, **settings}
    plain = {"time": "at", "user": "user", "label": {"column": "sampled_label"}, "request": {"column": "session"}}
    data = {"source": str(source), **plain, "negatives": sampling, **(data or {})}
    return Run.model_validate(
        {"name": "n", "root": str(root), "seed": seed, "data": data, "features": {"ids": ["item"]}}
    )


def sample(tmp_path, table=None, **options) -> pd.DataFrame:
    """The sampled log of a table in two files."""
    table = log_of() if table is None else table
    half = len(table) // 3
    source = write_log(tmp_path / "log", {"a.parquet": table[:half], "b/c.parquet": table[half:]})
    run = run_of(source, tmp_path / "run", **options)
    return read_log(sampled_log(run, listing.open_data(run.data), tmp_path / "run"))


def hour_of(rows):
    return rows["at"].astype("datetime64[us, UTC]").astype(np.int64).to_numpy() // HOUR


def parted(rows):
    return rows[rows["sampled_label"] == 1].reset_index(drop=True), rows[rows["sampled_label"] == 0]

"""What tests of monitoring share: days of scored requests whose labels are drawn from the scores themselves."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAY_US = 86_400_000_000
FIRST = 1_700_006_400_000_000  # a midnight


def requests(num_days, *, per_day=120, candidates=6, users=60, seed=0, shift=0.0, from_day=10**9, blind=False, first=0):
    """(scored, labels) of days from `first` on; from `from_day` on labels follow the scores less `shift`.

    blind: from that day on they do not follow them at all.
    """
    generator = np.random.default_rng(seed)
    num = num_days * per_day
    day = np.repeat(np.arange(first, first + num_days), per_day)
    request = np.repeat(np.arange(num) + first * per_day, candidates)
    time = FIRST + np.repeat(day * DAY_US + np.sort(generator.integers(0, DAY_US, num)), candidates)
    score = generator.normal(-1, 1.2, num * candidates)
    late = np.repeat(day, candidates) >= from_day
    truth = np.where(late, generator.permutation(score) if blind else score - shift, score)
    label = (generator.random(len(score)) < 1 / (1 + np.exp(-truth))).astype(np.int8)
    item = np.tile(np.arange(candidates), num)
    scored = pa.table(
        {
            "timestamp": pa.array(time).cast(pa.timestamp("us", tz="UTC")),
            "request_id": request,
            "user_id": np.repeat(generator.integers(0, users, num), candidates),
            "item_id": item,
            "country": np.where(request % 3 == 0, "de", "fr"),
            "score": score.astype(np.float32),
            "model": np.where(np.repeat(day, candidates) < 5, "old", "new"),
        }
    )
    labels = scored.select(["request_id", "item_id", "timestamp"]).append_column("clicked", pa.array(label))
    return scored, labels


def written(folder, **tables):
    """The tables as Parquet files by name: {name: path}."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.parquet" for name in tables}
    for name, table in tables.items():
        pq.write_table(table, paths[name])
    return paths


def as_log(scored):
    """Scored rows in the shape of the server's log: a row a request."""
    frame = scored.to_pandas()
    found = frame.groupby("request_id", sort=True).agg(
        time=("timestamp", "first"),
        user_id=("user_id", "first"),
        country=("country", "first"),
        model=("model", "first"),
        items=("item_id", list),
        scores=("score", list),
    )
    found = found.reset_index().rename(columns={"request_id": "request"})
    found["request"] = found["request"].astype(str)
    found["items"] = [[str(item) for item in items] for items in found["items"]]
    return pa.Table.from_pandas(found, preserve_index=False)

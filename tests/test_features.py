"""Every kind of feature through the whole path: what the store holds is what a request rebuilt from the log gives."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import make_run, read_log, write_log

from recdistill.data import buckets, parts
from recdistill.data.encoder import Encoder
from recdistill.data.prepare import open_checked, prepare
from recdistill.data.requests import raw_requests
from recdistill.data.split import SPLITS
from recdistill.data.store import open_rows

NONE = np.empty(0, np.int64)
EVERY_KIND = {
    "ids": [
        "item_id",
        {"column": "country", "hash_buckets": 5},
        {"column": "categories", "max_values": 2},
        {"column": "user_id", "max_rows": 40, "min_count": 2},
        {"cross": ["country", "categories_text"], "min_count": 3},
        {"cross": ["country", "item_id"], "hash_buckets": 50, "name": "hashed"},
        {"calendar": "hour"},
        {"calendar": "weekday"},
        {"column": "price", "quantiles": 7, "name": "price bin"},
        {"column": "price", "edges": [1.0, 20.0], "name": "price band"},
        {"column": "last_item", "table": "item_id"},
        {"column": "secret", "serve": "never"},
    ],
    "dense": [{"column": "price", "transform": "log1p"}, {"column": "age", "transform": "rank"}, "dwell"],
    "history": {"item": "item_id", "outcomes": ["clicked", "price band"], "length": 4},
    "aggregates": [
        {"value": "count", "by": "user_id"},
        {"value": "mean", "by": "item_id", "prior": 3.0},
        {"value": "mean", "of": "dwell", "by": ["user_id", "categories"]},
        {"value": "count", "by": "categories", "delay": "2h"},
        {"value": "recency", "of": "clicked", "by": ["user_id"]},
        {"value": "mean", "by": "country", "serve": "never", "name": "told the teacher only"},
    ],
}


def table(num_rows=600, seed=0):
    """Few users, items and instants; holes everywhere that holes may be."""
    generator = np.random.default_rng(seed)

    def holes(values, kind=None):
        return pa.array(list(values), kind, mask=generator.random(num_rows) < 0.1)

    at = 1_700_000_000 + np.sort(generator.integers(0, 400, num_rows)) * 900
    item = generator.integers(0, 25, num_rows)
    lists = [["a", "b", "c", "a"][: n % 5] for n in generator.integers(0, 5, num_rows)]
    return pa.table(
        {
            "user_id": generator.integers(0, 12, num_rows),
            "item_id": holes(item),
            "last_item": holes(generator.integers(0, 40, num_rows)),
            "categories": pa.array(lists, pa.list_(pa.string())),
            "categories_text": holes(map("".join, lists), pa.string()),
            "country": holes(generator.choice(["at", "be", "ch"], num_rows).tolist()),
            "price": holes(generator.exponential(10, num_rows)),
            "age": holes(generator.integers(10, 80, num_rows)),
            "dwell": holes(generator.integers(0, 50, num_rows)),
            "secret": holes(generator.integers(0, 9, num_rows)),
            "session": generator.integers(0, 30, num_rows),
            "timestamp": pa.array(at * 1_000_000).cast(pa.timestamp("us", tz="UTC")),
            "request_id": at,
            "clicked": generator.integers(0, 2, num_rows),
        }
    )


def prepared(root, features=EVERY_KIND, data=None, rows=None):
    """(run, encoder, folder) of a log in three files."""
    rows = table() if rows is None else rows
    log = write_log(root / "log", {f"{n}.parquet": rows.slice(n * 200, 200) for n in range(-(-len(rows) // 200))})
    run = make_run(log, root)
    sections = run.model_dump(mode="json")
    run = run.model_validate({**sections, "features": features, "data": {**sections["data"], **(data or {})}})
    (root / "out").mkdir()
    prepare(run, {}, root / "out")
    return run, Encoder.open(root / "out/encoder"), root / "out"


def compare(run, encoder, folder, num=60):
    """Requests rebuilt from the log, encoded, against the store; returns the requests."""
    of_ids, of_dense = encoder.comparable()
    checked = []
    for split in SPLITS:
        rows = open_rows(folder, split)
        index = np.sort(np.random.default_rng(0).permutation(len(rows))[:num])
        requests = raw_requests(run, open_checked(run), rows["row_id"][index], NONE, encoder)
        ids, dense = encoder.request(requests)
        for feature in encoder.layout.ids:
            inside = [n for n in range(feature.start, feature.start + feature.width) if n in of_ids]
            assert (ids[:, inside] == rows.ids(index)[:, inside]).all(), feature.name
        for place in of_dense:
            assert dense[:, place] == pytest.approx(rows.dense(index)[:, place], abs=1e-5), encoder.layout.dense[place]
        checked.append(requests)
    return pa.concat_tables(checked)


def test_every_kind_of_feature_is_the_same_in_training_and_in_a_request(tmp_path):
    run, encoder, folder = prepared(tmp_path)
    requests = compare(run, encoder, folder)
    assert requests.num_rows == 180
    assert {"secret", "told the teacher only"}.isdisjoint(requests.column_names)
    assert {"count_by_user_id", "history.price band", "timestamp"} <= set(requests.column_names)
    assert [n for n, name in enumerate(encoder.layout.dense) if name not in encoder.features.privileged] == [
        *range(len(encoder.layout.dense) - 1)
    ]


@pytest.mark.parametrize("size", [7, 64])
def test_segments_and_buckets_change_no_feature(tmp_path, monkeypatch, size):
    _, _, one = prepared(tmp_path / "one")
    monkeypatch.setattr(parts, "ROWS_PER_SEGMENT", size)
    monkeypatch.setattr(buckets, "ROWS_PER_BUCKET", size)
    _, _, other = prepared(tmp_path / "other")
    for split in SPLITS:
        first, second = open_rows(one, split), open_rows(other, split)
        every = np.arange(len(first))
        assert (first.ids(every) == second.ids(every)).all()
        assert first.dense(every) == pytest.approx(second.dense(every), abs=1e-5)


def test_histories_of_a_session_with_a_delay(tmp_path):
    history = {"item": "item_id", "outcomes": ["dwell"], "length": 5, "per": "session", "delay": "3h"}
    run, encoder, folder = prepared(tmp_path, {**EVERY_KIND, "history": history})
    requests = compare(run, encoder, folder).to_pandas()
    log = read_log(tmp_path / "log")
    assert len(requests) == 180
    with_past = 0
    for split in SPLITS:
        rows = open_rows(folder, split)
        for ids, row_id in zip(rows.ids(np.arange(40)), rows["row_id"][:40], strict=True):
            row = log.iloc[row_id]
            past = log[(log.session == row.session) & (log.timestamp < row.timestamp - pd.Timedelta(hours=3))]
            (feature,) = (f for f in encoder.layout.ids if f.name == "history.dwell")
            values = encoder.tables["dwell"].ids(
                pa.array(past.dwell.iloc[::-1][:5], pa.float64(), from_pandas=True).cast("int64")
            )
            assert ids[feature.columns].tolist() == [*values, *[0] * (5 - len(values))]
            with_past += len(past) > 0
    assert with_past > 30


def test_an_aggregate_by_hand(tmp_path):
    """Four events of one user at hours 0, 1, 1 and 2: rows of one hour do not see each other."""
    hours = np.r_[np.array([0, 1, 1, 2]), np.arange(3, 40)]
    num = len(hours)
    rows = table(num).set_column(0, "user_id", pa.array([5] * 4 + list(range(100, 100 + num - 4))))
    names = rows.column_names
    at = pa.array((1_700_000_000 + hours * 3600) * 1_000_000).cast(pa.timestamp("us", tz="UTC"))
    rows = rows.set_column(names.index("timestamp"), "timestamp", at)
    rows = rows.set_column(names.index("clicked"), "clicked", pa.array([1, 0, 1, 0] + [n % 2 for n in range(num - 4)]))
    aggregates = [
        {"value": "count", "by": "user_id"},
        {"value": "mean", "by": "user_id", "prior": 2.0},
        {"value": "recency", "by": "user_id"},
    ]
    run, encoder, folder = prepared(tmp_path, {**EVERY_KIND, "aggregates": aggregates}, rows=rows)
    log = open_checked(run)
    mean = encoder.means["mean_by_user_id"]
    train = open_rows(folder, "train")
    assert mean == pytest.approx(train["label"].mean())
    found = raw_requests(run, log, np.arange(4), NONE, encoder).to_pydict()
    assert found["count_by_user_id"] == [0, 1, 1, 3]
    assert found["mean_by_user_id"] == pytest.approx([mean, (1 + 2 * mean) / 3, (1 + 2 * mean) / 3, (2 + 2 * mean) / 5])
    assert found["recency_by_user_id"] == [None, 3600, 3600, 3600]
    dense = train.dense(np.arange(4))
    place = encoder.layout.dense.index("count_by_user_id")
    scale = encoder.scales[place]
    assert dense[:, place] == pytest.approx((np.log1p([0, 1, 1, 3]) - scale.mean) / scale.deviation, abs=1e-5)


def test_rows_under_embargo_are_in_no_window_but_in_every_past(tmp_path):
    _, _, plain = prepared(tmp_path / "plain")
    _, _, held = prepared(tmp_path / "held", data={"split": {"train": 0.7, "valid": 0.15, "embargo": "4h"}})
    first, second = (open_rows(folder, "train") for folder in (plain, held))
    lost = set(first["row_id"].tolist()) - set(second["row_id"].tolist())
    assert 5 < len(lost) < 60
    border = open_rows(plain, "valid")["time"].min()
    assert all(border - 4 * 3_600_000_000 <= first["time"][first["row_id"] == row][0] < border for row in lost)
    one, other = open_rows(plain, "test"), open_rows(held, "test")
    assert (one["past"] == other["past"]).all()
    assert len(open_rows(held, "valid")) < len(open_rows(plain, "valid"))


def test_down_sampled_negatives_shift_the_train_rows_and_no_others(tmp_path):
    _, _, folder = prepared(tmp_path, data={"keep_negatives": 0.25})
    train, valid = (open_rows(folder, split) for split in ("train", "valid"))
    assert 0.1 < (train["label"] == 0).sum() / (train["label"] == 1).sum() < 0.45
    assert train["offset"] == pytest.approx(np.full(len(train), np.log(4)))
    assert (valid["offset"] == 0).all()
    assert np.isclose((valid["label"] == 0).mean(), 0.5, atol=0.15)


def test_what_the_bundle_serves_by_a_key_is_the_last_value_of_the_train_window(tmp_path):
    features = {
        "ids": ["item_id", {"column": "categories", "max_values": 3, "serve": "bundle", "key": "item_id"}],
        "dense": [{"column": "price", "serve": "bundle", "key": "item_id"}],
    }
    _, encoder, folder = prepared(tmp_path, features)
    assert encoder.needed == ["item_id"]
    log = read_log(tmp_path / "log")
    train = log.iloc[open_rows(folder, "train")["row_id"]].dropna(subset="item_id")
    last = train.groupby("item_id").tail(1).set_index("item_id")
    served = encoder.served["item_id"].table.to_pylist()
    assert len(served) == len(last) > 20
    for row in served:
        wanted = last.loc[row["key"]]
        assert row["categories"] == list(wanted.categories)[:3]
        assert row["price"] == (None if pd.isna(wanted.price) else np.float32(wanted.price))
    ids, dense = encoder.request(pa.table({"item_id": [served[3]["key"], 10**6]}))
    assert dense[1].tolist() == [0.0]
    assert ids[1].tolist() == [1, 0, 0, 0]
    assert ids[0, 0] > 1

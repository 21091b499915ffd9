"""The prepare step and its store: every row once, in its window, with what it could know then and nothing later."""

import json

import numpy as np
import pyarrow as pa
import pytest
from conftest import log_table, make_run, read_log, the_line, write_log

from recdistill.data import buckets, parts, write
from recdistill.data.batches import Batches
from recdistill.data.encoder import Encoder
from recdistill.data.log.listing import open_log
from recdistill.data.prepare import encode_as, open_checked, prepare
from recdistill.data.split import SPLITS
from recdistill.data.store import open_rows
from recdistill.files import whole_folder
from recdistill.problems import BadInput
from recdistill.types import ABSENT, OOV

NUM_ROWS = 400
START = 1_700_000_000_000_000


def distinct_times(num_rows=NUM_ROWS):
    """Ascending, an hour apart."""
    return pa.array(START + np.arange(num_rows) * 3_600_000_000).cast(pa.timestamp("us", tz="UTC"))


def table(seed=0, num_rows=NUM_ROWS, **columns):
    return log_table(num_rows, seed, **{"timestamp": distinct_times(num_rows), **columns})


def prepared(root, files, **sections):
    """(folder, run) of the prepare step on a log of these files."""
    log = write_log(root / "log", files)
    run = make_run(log, root, **sections)
    with whole_folder(root / "prepare", {"step": "prepare", "key": "0" * 64}) as out:
        prepare(run, {}, out)
    return root / "prepare", run


def everything(folder):
    """row_id -> (window, ids, dense, label, time) of every row of a store."""
    seen = {}
    for split in SPLITS:
        rows = open_rows(folder, split)
        every = np.arange(len(rows))
        ids, dense = rows.ids(every), rows.dense(every)
        for place in every:
            row_id = int(rows["row_id"][place])
            assert row_id not in seen
            values = ids[place].tolist(), dense[place].tolist(), float(rows["label"][place]), int(rows["time"][place])
            seen[row_id] = (split, *values)
    return seen


def values_of(encoder, name, ids):
    """Ids back to values; None for absent, "unknown" for unknown."""
    table_of = {feature.name: feature.table for feature in encoder.layout.ids}
    known = [None, "unknown", *encoder.tables[table_of[name]].values.to_pylist()]
    return [known[i] for i in ids]


def test_every_row_is_in_the_window_of_its_time(tmp_path):
    folder, _ = prepared(tmp_path, {"a.parquet": table().slice(0, 150), "b.parquet": table().slice(150)})
    about = json.loads((folder / "data.json").read_text())
    seen = everything(folder)
    assert sorted(seen) == list(range(NUM_ROWS))
    sizes = {split: [row for row, (own, *_) in seen.items() if own == split] for split in SPLITS}
    assert [len(sizes[split]) for split in SPLITS] == [280, 60, 60] == [about[split]["rows"] for split in SPLITS]
    assert max(sizes["train"]) < min(sizes["valid"])  # the times ascend with the rows
    assert max(sizes["valid"]) < min(sizes["test"])
    labels = table().column("clicked").to_pylist()
    for split in SPLITS:
        assert about[split]["positives"] == sum(labels[row] for row in sizes[split])
    assert all(seen[row][3] == labels[row] for row in seen)
    assert about["fingerprint"] == open_log(str(tmp_path / "log")).fingerprint


def test_a_store_holds_what_the_log_says_with_histories_by_hand(tiny_log, tiny_prepared):
    """The tiny world, against pandas, row by row: the last 6 events of the same user before the row's instant."""
    encoder = Encoder.open(tiny_prepared / "encoder")
    log = read_log(tiny_log)
    log = log.assign(row=np.arange(len(log)))
    columns = {feature.name: feature.columns for feature in encoder.layout.ids}
    checked = with_past = 0
    known = set(encoder.tables["item_id"].values.to_pylist())

    def seen(items):
        return [item if item in known else "unknown" for item in items]

    for split in SPLITS:
        rows = open_rows(tiny_prepared, split)
        index = np.random.default_rng(0).integers(0, len(rows), 40)
        for ids, row_id in zip(rows.ids(index), rows["row_id"][index], strict=True):
            row = log.iloc[row_id]
            past = log[(log.user_id == row.user_id) & (log.timestamp < row.timestamp)]
            past = past.sort_values(["timestamp", "row"]).iloc[::-1][:6]
            found = {name: values_of(encoder, name, ids[where]) for name, where in columns.items()}
            padding = [None] * (6 - len(past))
            assert found["item_id"] == seen([row.item_id])
            assert found["country"] == [row.country]
            assert found["categories"] == list(row.categories)
            assert found["history.item_id"] == [*seen(past.item_id), *padding]
            assert found["history.clicked"] == [*past.clicked, *padding]
            checked += 1
            with_past += len(past) > 0
    assert checked == 120
    assert with_past > 60


def test_the_encoder_knows_the_train_window_only(tmp_path):
    """From row 280 on, another item, another country, prices a thousand times higher."""
    late = np.arange(NUM_ROWS) >= 280
    plain = table()
    columns = {
        "item_id": np.where(late, 999, plain.column("item_id").to_numpy()),
        "country": pa.array(np.where(late, "zz", np.array(plain.column("country").to_pylist()))),
        "price": plain.column("price").to_numpy() * np.where(late, 1000, 1),
        "categories": pa.array([["late"] if is_late else ["early"] for is_late in late]),
    }
    folder, _ = prepared(tmp_path, {"a.parquet": table(**columns)})
    encoder = Encoder.open(folder / "encoder")
    assert 999 not in encoder.tables["item_id"].values.to_pylist()
    assert encoder.tables["categories"].values.to_pylist() == ["early"]
    early = np.log1p(columns["price"][:280])
    (scale,) = encoder.scales
    assert (scale.mean, scale.deviation) == pytest.approx((early.mean(), early.std()))
    seen = everything(folder)
    for row, (split, ids, dense, *_) in seen.items():
        unknown = split != "train"
        assert (ids[0] == OOV) == unknown
        assert (ids[1] == OOV) == unknown
        assert ids[2:4] == [OOV if unknown else 2, ABSENT]
        assert dense[0] == pytest.approx(
            (np.log1p(columns["price"][row]) - early.mean()) / early.std(), rel=1e-4, abs=1e-5
        )


def test_nulls_are_absent_and_a_null_number_is_the_mean(tmp_path):
    holes = np.arange(NUM_ROWS) % 7 == 0
    plain = table()
    columns = {
        name: pa.array(plain.column(name).to_pylist(), plain.schema.field(name).type, mask=holes)
        for name in ("item_id", "country", "categories", "price")
    }
    folder, _ = prepared(tmp_path, {"a.parquet": table(**columns)})
    for row, (_, ids, dense, *_) in everything(folder).items():
        assert (ids[0] == ABSENT) == (ids[1] == ABSENT) == holes[row]
        if holes[row]:
            assert ids[2:4] == [ABSENT, ABSENT]
            assert dense == [0.0]


def by_key(folder, log_rows):
    """(user, item, time) -> what the row sees, without the row's number."""
    users, items, times = (log_rows.column(name).to_pylist() for name in ("user_id", "item_id", "timestamp"))
    return {(users[row], items[row], times[row]): seen for row, seen in everything(folder).items()}


def test_the_order_of_files_and_rows_does_not_change_what_a_row_sees(tmp_path):
    plain = table(item_id=np.arange(NUM_ROWS) % 90)
    order = np.random.default_rng(0).permutation(NUM_ROWS)
    mixed = plain.take(pa.array(order))
    one, _ = prepared(tmp_path / "one", {"a.parquet": plain})
    files = {"z.parquet": mixed.slice(0, 90), "a.parquet": mixed.slice(90, 200), "m/m.parquet": mixed.slice(290)}
    other, _ = prepared(tmp_path / "other", files)
    in_order = pa.concat_tables([files[name] for name in sorted(files)])
    first, second = by_key(one, plain), by_key(other, in_order)
    assert len(first) == NUM_ROWS
    assert first == second


def test_among_events_of_one_instant_the_same_ones_are_seen_in_any_order_of_the_log(tmp_path):
    """Where the whole instant fits into the history: the order inside it is that of the log."""
    times = pa.array(START + (np.arange(NUM_ROWS) // 20) * 1_000_000).cast(pa.timestamp("us", tz="UTC"))
    plain = table(timestamp=times, item_id=np.arange(NUM_ROWS), user_id=np.zeros(NUM_ROWS, np.int64))
    features = {"history": {"item": "item_id", "outcomes": ["clicked"], "length": NUM_ROWS}}
    mixed = plain.take(pa.array(np.random.default_rng(0).permutation(NUM_ROWS)))
    pasts = []
    for name, rows in (("one", plain), ("other", mixed)):
        folder, _ = prepared(tmp_path / name, {"a.parquet": rows}, features=features)
        seen = {key: (split, sorted(ids)) for key, (split, ids, *_) in by_key(folder, rows).items()}
        pasts.append(seen)
    assert pasts[0] == pasts[1]


@pytest.mark.parametrize(("rows_per_segment", "rows_per_bucket"), [(7, 50), (1000, 33)])
def test_segments_chunks_and_buckets_do_not_change_the_store(tmp_path, monkeypatch, rows_per_segment, rows_per_bucket):
    one, _ = prepared(tmp_path / "one", {"a.parquet": table()})
    monkeypatch.setattr(parts, "ROWS_PER_SEGMENT", rows_per_segment)
    monkeypatch.setattr(write, "ROWS_PER_CHUNK", rows_per_segment // 2)
    monkeypatch.setattr(buckets, "ROWS_PER_BUCKET", rows_per_bucket)
    other, _ = prepared(tmp_path / "other", {"a.parquet": table()})
    first, second = everything(one), everything(other)
    for row, (split, ids, dense, *rest) in first.items():
        assert second[row][:2] == (split, ids)
        assert second[row][2] == pytest.approx(dense, rel=1e-5, abs=1e-6)  # means are added in another order
        assert list(second[row][3:]) == rest


def test_a_window_alone_is_written_as_it_is_among_the_others(tmp_path):
    whole, run = prepared(tmp_path, {"a.parquet": table()})
    encoder = Encoder.open(whole / "encoder")
    (tmp_path / "alone").mkdir()
    encode_as(run, open_checked(run), encoder, tmp_path / "alone", ["test"])
    one, other = open_rows(whole, "test"), open_rows(tmp_path / "alone", "test", encoder.layout)
    every = np.arange(len(one))
    assert (one.ids(every) == other.ids(every)).all()
    assert (one["row_id"] == other["row_id"]).all()
    assert sorted(path.name for path in (tmp_path / "alone/rows").iterdir()) == ["test"]


def test_another_encoder_reads_the_parts_that_are_there_where_it_wants_nothing_else(tmp_path, monkeypatch):
    _, run = prepared(tmp_path, {"a.parquet": table()})
    shorter = run.features.model_copy(update={"history": run.features.history.model_copy(update={"length": 2})})
    prepared(tmp_path / "other", {"a.parquet": table()}, features=shorter.model_dump(mode="json"))
    encoder = Encoder.open(tmp_path / "other/prepare/encoder")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/parts").rglob("*")}
    monkeypatch.setattr(parts, "tables", None)  # whoever reads a file now, fails
    (tmp_path / "theirs").mkdir()
    encode_as(run, open_checked(run), encoder, tmp_path / "theirs", ["test"])
    assert not (tmp_path / "theirs" / "work" / "parts").exists()
    one, same = (open_rows(folder, "test") for folder in (tmp_path / "other/prepare", tmp_path / "theirs"))
    assert (one.ids(np.arange(len(one))) == same.ids(np.arange(len(one)))).all()
    assert one.layout.histories[0].width == 2
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run/parts").rglob("*")} == before


def test_another_encoder_reads_the_log_apart_where_it_wants_something_else(tmp_path):
    _, run = prepared(tmp_path, {"a.parquet": table()})
    prepared(tmp_path / "other", {"a.parquet": table()}, features={"ids": ["item_id", "user_id"], "dense": []})
    encoder = Encoder.open(tmp_path / "other/prepare/encoder")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/parts").rglob("*")}
    (tmp_path / "theirs").mkdir()
    encode_as(run, open_checked(run), encoder, tmp_path / "theirs", ["test"])
    one, same = (open_rows(folder, "test") for folder in (tmp_path / "other/prepare", tmp_path / "theirs"))
    assert (one.ids(np.arange(len(one))) == same.ids(np.arange(len(one)))).all()
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run/parts").rglob("*")} != {}


def test_a_store_without_history_or_numbers_is_a_store(tmp_path):
    folder, _ = prepared(tmp_path, {"a.parquet": table()}, features={"history": None, "dense": []})
    rows = open_rows(folder, "train")
    assert rows.ids(np.array([5, 0])).shape == (2, 4)
    assert rows.dense(np.array([5, 0])).shape == (2, 0)
    assert not (folder / "events").exists()


def test_any_rows_in_any_order_are_those_rows(tiny_prepared):
    rows = open_rows(tiny_prepared, "valid")
    every = rows.ids(np.arange(len(rows)))
    index = np.array([7, 3, 3, len(rows) - 1, 0])
    assert (rows.ids(index) == every[index]).all()
    assert rows.ids(index[:0]).shape == (0, every.shape[1])
    assert (every >= 0).all()
    assert (every < np.array(rows.layout.limits())).all()
    assert 0 < np.mean(every[:, -1] != ABSENT) < 1  # full histories and short ones


def test_the_data_window_bounds_rows_and_histories(tmp_path):
    """A history starts where the data window does: data.start hides what lies before it."""
    data = {"start": "2023-11-20T00:00:00"}
    plain = table(user_id=np.zeros(NUM_ROWS, np.int64))
    run = make_run(tmp_path / "log", tmp_path)
    folder, _ = prepared(tmp_path, {"a.parquet": plain}, data={**run.data.model_dump(mode="json"), **data})
    seen = everything(folder)
    first = min(seen)
    assert 100 < first < 200
    assert seen[first][1][4:] == [ABSENT] * 12


@pytest.mark.parametrize(("start", "end"), [("2030-01-01", None), (None, "2001-01-01")])
def test_an_empty_data_window_is_told(tmp_path, start, end):
    data = make_run(tmp_path / "log", tmp_path).data.model_dump(mode="json")
    with pytest.raises(BadInput) as caught:
        prepared(tmp_path, {"a.parquet": table()}, data={**data, "start": start, "end": end})
    the_line(caught.value.problems, "data window", "found none", "data.start and data.end")
    assert not (tmp_path / "prepare").exists()


def test_every_window_of_one_class_is_told(tmp_path):
    labels = np.r_[np.arange(280) % 2, np.zeros(60), np.ones(60)].astype(np.int8)
    with pytest.raises(BadInput) as caught:
        prepared(tmp_path, {"a.parquet": table(clicked=labels)})
    assert len(caught.value.problems) == 2
    the_line(caught.value.problems, "valid window", "column clicked", "wanted labels of 0 and of 1", "found only 0")
    the_line(caught.value.problems, "test window", "found only 1")


def test_a_column_that_nobody_reads_may_differ_from_file_to_file(tmp_path):
    one, other = table().slice(0, 200), table().slice(200)
    files = {
        "a.parquet": one.append_column("note", pa.array(["x"] * 200)),
        "b.parquet": other.append_column("note", pa.array(range(200))),
    }
    folder, _ = prepared(tmp_path, files)
    assert len(everything(folder)) == NUM_ROWS


TASKS = [{"name": "bought", "column": "bought"}, {"name": "long", "column": "dwell", "at_least": 30}]


def outcomes(num_rows=NUM_ROWS):
    """Two outcomes beside the click, both null in some rows."""
    row = np.arange(num_rows)
    return {
        "bought": pa.array((row % 5 == 0).astype(np.int8), mask=row % 4 == 3),
        "dwell": pa.array(row % 61 + 0.5, mask=row % 7 == 0),
    }


def tasks_of(folder):
    """row_id -> labels of all tasks, as batches give them."""
    found = {}
    for split in SPLITS:
        for batch in Batches(rows=open_rows(folder, split), batch_size=64, shuffle="rows").epoch(0):
            found |= dict(zip(batch.row_id.tolist(), batch.tasks.tolist(), strict=True))
    return found


def with_data(root, **settings):
    return {"data": {**make_run(root / "log", root).data.model_dump(mode="json"), **settings}}


def test_other_outcomes_reach_the_batches_beside_the_label(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "ROWS_PER_SEGMENT", 150)
    made = table(**outcomes())
    folder, _ = prepared(tmp_path, {"a.parquet": made}, **with_data(tmp_path, tasks=TASKS))
    found = tasks_of(folder)
    rows = made.select(["clicked", "bought", "dwell"]).to_pylist()
    assert len(found) == NUM_ROWS
    for number, row in enumerate(rows):
        dwell = row["dwell"]
        wanted = [row["clicked"], row["bought"], None if dwell is None else dwell >= 30]
        assert [None if np.isnan(value) else value for value in found[number]] == wanted, number


def test_without_other_outcomes_a_store_is_what_it_was(tmp_path):
    plain, _ = prepared(tmp_path / "plain", {"a.parquet": table()})
    folder, _ = prepared(
        tmp_path / "tasks", {"a.parquet": table(**outcomes())}, **with_data(tmp_path / "tasks", tasks=TASKS)
    )
    one, other = open_rows(plain, "train"), open_rows(folder, "train")
    assert "tasks" not in one.records.dtype.names
    assert Batches(rows=one, batch_size=8).batch(np.arange(3)).tasks is None
    assert other.records.itemsize - one.records.itemsize == 2 * 4
    for name in one.records.dtype.names:
        assert np.array_equal(one[name], other[name]), name


def test_an_outcome_that_is_neither_0_nor_1_is_told(tmp_path):
    made = table(**outcomes()).drop_columns(["bought"]).append_column("bought", pa.array([0, 2] * (NUM_ROWS // 2)))
    with pytest.raises(BadInput) as caught:
        prepared(tmp_path, {"a.parquet": made}, **with_data(tmp_path, tasks=TASKS))
    the_line(caught.value.problems, "column bought: wanted a label of 0 or 1", "data.tasks.bought.at_least")


def test_an_outcome_that_the_log_lacks_is_told(tmp_path):
    with pytest.raises(BadInput) as caught:
        prepared(tmp_path, {"a.parquet": table()}, **with_data(tmp_path, tasks=TASKS))
    the_line(caught.value.problems, "column bought", "wanted such a column")
    the_line(caught.value.problems, "column dwell", "wanted such a column")


def test_a_threshold_of_an_outcome_reads_the_log_again(tmp_path):
    made = table(**outcomes())
    folder, run = prepared(tmp_path, {"a.parquet": made}, **with_data(tmp_path, tasks=TASKS))
    before = {number: values[2] for number, values in tasks_of(folder).items()}
    tasks = [run.data.tasks[0], run.data.tasks[1].model_copy(update={"at_least": 5.0})]
    (tmp_path / "again").mkdir()
    prepare(run.model_copy(update={"data": run.data.model_copy(update={"tasks": tasks})}), {}, tmp_path / "again")
    after = {number: values[2] for number, values in tasks_of(tmp_path / "again").items()}
    assert np.nansum(list(after.values())) > np.nansum(list(before.values())) > 0


def test_a_drawn_negative_has_no_other_outcome(tmp_path):
    made = table(**outcomes()).drop_columns(["clicked"])
    data = with_data(
        tmp_path,
        tasks=TASKS,
        label={"column": "sampled_label"},
        negatives={"item": "item_id", "per_positive": 1, "by": "uniform"},
        contract={"max_single_auc": 1.0},
    )
    features = {"ids": ["item_id"], "dense": [], "history": None}
    folder, _ = prepared(tmp_path, {"a.parquet": made}, features=features, **data)
    found = np.array(list(tasks_of(folder).values()))
    drawn = found[:, 0] == 0
    assert 100 < drawn.sum() < len(drawn)
    assert np.isnan(found[drawn, 1:]).all()
    assert np.nansum(found[~drawn, 1:]) > 0

"""A log read into parts: once, again only where something changed, with the rows that are fit to use and no others."""

import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import log_table, make_run, the_line, write_log

from recdistill.data import parts
from recdistill.data.admit import admit, dropped_rows
from recdistill.data.prepare import open_checked, prepare, read_view
from recdistill.data.split import SPLITS
from recdistill.data.store import open_rows
from recdistill.problems import BadInput

NUM_ROWS = 600
CLOCK = datetime(2026, 1, 1, tzinfo=UTC)


def files(table, size=200):
    return {f"day={n:02d}/part.parquet": table.slice(n * size, size) for n in range(-(-len(table) // size))}


def run_on(root, table=None, contract=None, **sections):
    """A run on a log of these rows, in files of 200."""
    log = write_log(root / "log", files(log_table(NUM_ROWS) if table is None else table))
    data = make_run(log, root).data.model_dump(mode="json")
    return make_run(log, root, data={**data, "contract": contract or {}}, **sections)


def prepared(run, name="out"):
    from pathlib import Path

    out = Path(run.folder) / name
    out.mkdir(parents=True)
    prepare(run, {}, out)
    return out


def store(folder):
    """Everything that a model could read of every window, in order."""
    found = []
    for split in SPLITS:
        rows = open_rows(folder, split)
        every = np.arange(len(rows))
        found += [rows.ids(every), rows.dense(every), rows["label"].copy(), rows["time"].copy()]
    return found


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(store(one), store(other), strict=True))


def part_times(root):
    """Part folder -> when it was written."""
    found = {path.name: path.stat().st_mtime_ns for path in (root / "run/parts").iterdir()}
    assert found
    return found


def test_a_log_that_did_not_change_is_not_read_again(tmp_path, monkeypatch):
    run = run_on(tmp_path)
    one = prepared(run)
    before = part_times(tmp_path)
    monkeypatch.setattr(parts, "tables", None)  # whoever reads a file now, fails
    assert same(one, prepared(run, "again"))
    assert part_times(tmp_path) == before


def test_a_new_partition_is_all_that_is_read_and_the_store_is_as_from_scratch(tmp_path):
    whole = log_table(NUM_ROWS)
    run = run_on(tmp_path / "grown", whole.slice(0, 400))
    prepared(run)
    before = part_times(tmp_path / "grown")
    write_log(tmp_path / "grown/log", {"day=02/part.parquet": whole.slice(400)})
    grown = prepared(run, "grown")
    after = part_times(tmp_path / "grown")
    assert {name: after[name] for name in before} == before
    assert len(after) == 3
    assert same(grown, prepared(run_on(tmp_path / "scratch", whole)))


def test_other_windows_read_nothing_again_other_features_do(tmp_path, monkeypatch):
    run = run_on(tmp_path)
    prepared(run)
    before = set(part_times(tmp_path))
    moved = run.data.model_copy(update={"split": run.data.split.model_copy(update={"train": 0.6})})
    prepared(run.model_copy(update={"data": moved}), "moved")
    assert set(part_times(tmp_path)) == before
    fewer = run.features.model_copy(update={"dense": []})
    prepared(run.model_copy(update={"features": fewer}), "fewer")
    assert before.isdisjoint(part_times(tmp_path))


def with_contract(run, **rules):
    contract = run.data.contract.model_validate({**run.data.contract.model_dump(mode="json"), **rules})
    return run.model_copy(update={"data": run.data.model_copy(update={"contract": contract})})


@pytest.mark.parametrize(
    "rule",
    [
        {"max_quarantined": 0.5},
        {"max_single_auc": 0.9},
        {"label_rate": (0.1, 0.9)},
        {"min_rows": 7},
        {"min_rows_per_partition": 0},
        {"max_future": "1d"},
    ],
    ids=lambda rule: next(iter(rule)),
)
def test_a_rule_of_the_whole_log_reads_nothing_again(tmp_path, monkeypatch, rule):
    run = run_on(tmp_path)
    one = prepared(run)
    monkeypatch.setattr(parts, "tables", None)  # whoever reads a file now, fails
    assert same(one, prepared(with_contract(run, **rule), "again"))


@pytest.mark.parametrize(
    "rule",
    [
        {"columns": {"price": {"max": 1e9}}},
        {"unique": ["timestamp"]},
        {"earliest": "2001-01-01"},
        {"ordered": True},
        {"not_after": ["timestamp"]},
    ],
    ids=lambda rule: next(iter(rule)),
)
def test_a_rule_of_rows_reads_every_file_again(tmp_path, rule):
    run = run_on(tmp_path)
    prepared(run)
    before = set(part_times(tmp_path))
    prepared(with_contract(run, max_quarantined=1, min_rows=0, **rule), "again")
    assert before.isdisjoint(part_times(tmp_path))


def test_a_part_that_was_damaged_is_read_again(tmp_path):
    run = run_on(tmp_path)
    one = prepared(run)
    path = sorted((tmp_path / "run/parts").rglob("rows-0000.arrow"))[1]
    spoilt = bytearray(path.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    path.write_bytes(bytes(spoilt))
    assert same(one, prepared(run, "again"))


def spoilt(table, column, row, value):
    place = table.schema.get_field_index(column)
    values = table.column(column).to_pylist()
    values[row] = value
    return table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))


def test_bad_rows_up_to_the_limit_are_left_out_of_everything_and_written_down(tmp_path):
    clean = log_table(NUM_ROWS)
    bad = spoilt(spoilt(clean, "price", 250, float("nan")), "clicked", 431, 7)
    run = run_on(tmp_path / "bad", bad, contract={"max_quarantined": 2 / NUM_ROWS})
    out = prepared(run)
    lines = pq.read_table(out / "quarantine.parquet").to_pylist()
    assert [(line["file"], line["row_group"], line["row"], line["column"], line["found"]) for line in lines] == [
        ("day=01/part.parquet", 0, 50, "price", "nan"),
        ("day=02/part.parquet", 0, 31, "clicked", "7"),
    ]
    assert dropped_rows(out).tolist() == [250, 431]
    kept = clean.take(pa.array(np.delete(np.arange(NUM_ROWS), [250, 431])))
    assert same(out, prepared(run_on(tmp_path / "clean", kept)))
    rows = [row for split in SPLITS for row in open_rows(out, split)["row_id"].tolist()]
    assert sorted(rows) == np.delete(np.arange(NUM_ROWS), [250, 431]).tolist()


def test_more_bad_rows_than_allowed_stop_the_run_and_stay_as_evidence(tmp_path):
    bad = spoilt(spoilt(log_table(NUM_ROWS), "price", 250, float("nan")), "clicked", 431, 7)
    run = run_on(tmp_path, bad, contract={"max_quarantined": 1 / NUM_ROWS})
    with pytest.raises(BadInput) as caught:
        prepared(run)
    assert len(caught.value.problems) == 2
    the_line(caught.value.problems, "day=01/part.parquet: row group 0: row 50: column price", "found nan", "quarantine")
    the_line(caught.value.problems, "day=02/part.parquet: row group 0: row 31: column clicked", "found 7")
    assert pq.read_table(tmp_path / "run/quarantine.parquet").num_rows == 2


def test_a_tenth_of_the_events_sent_twice_changes_nothing(tmp_path):
    """Duplicates across files: the first of each stays, so what is trained on is equal to the bit."""
    clean = log_table(NUM_ROWS)
    clean = clean.append_column("event_id", pa.array(np.random.default_rng(0).permutation(NUM_ROWS) * 10**12))
    again = np.sort(np.random.default_rng(1).choice(NUM_ROWS, NUM_ROWS // 10, replace=False))
    twice = pa.concat_tables([clean, clean.take(pa.array(again))])
    contract = {"unique": ["event_id"], "max_quarantined": 0.2, "min_rows": 0}
    out = prepared(run_on(tmp_path / "twice", twice, contract))
    assert same(out, prepared(run_on(tmp_path / "clean", clean, contract)))
    assert dropped_rows(out).tolist() == list(range(NUM_ROWS, NUM_ROWS + len(again)))
    lines = pq.read_table(out / "quarantine.parquet").to_pylist()
    assert {line["column"] for line in lines} == {"event_id"}
    with pytest.raises(BadInput, match=r"column event_id: wanted every event once.*60 rows so"):
        prepared(run_on(tmp_path / "strict", twice, {"unique": ["event_id"], "min_rows": 0}))


def test_events_after_the_clock_are_left_out(tmp_path):
    future = pa.scalar(int(CLOCK.timestamp() * 1e6) + 90_000_000_000, pa.timestamp("us", tz="UTC"))
    table = spoilt(log_table(NUM_ROWS), "timestamp", 300, future.as_py())
    run = run_on(tmp_path, table, {"max_future": "1d", "max_quarantined": 0.01})
    log = open_checked(run)
    found = parts.read_parts(run, log, tmp_path / "parts")
    (tmp_path / "out").mkdir()
    dropped = admit(run, log, found, tmp_path / "out", now=CLOCK)
    assert {number: np.flatnonzero(rows).tolist() for number, rows in dropped.items()} == {1: [100]}
    later = datetime(2026, 1, 3, tzinfo=UTC)
    (tmp_path / "later").mkdir()
    assert admit(run, log, found, tmp_path / "later", now=later) == {}


def test_a_file_whose_times_fall_back_is_told_row_by_row(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "ROWS_PER_SEGMENT", 50)
    table = log_table(NUM_ROWS)
    early = table.column("timestamp")[0].as_py()
    run = run_on(tmp_path, spoilt(table, "timestamp", 270, early), {"ordered": True, "max_quarantined": 0.01})
    out = prepared(run)
    assert dropped_rows(out).tolist() == [270]
    (line,) = pq.read_table(out / "quarantine.parquet").to_pylist()
    assert (line["file"], line["row"], line["column"]) == ("day=01/part.parquet", 70, "timestamp")


def test_a_day_without_rows_is_told_unless_it_is_allowed(tmp_path):
    table = log_table(NUM_ROWS)
    run = run_on(tmp_path, table)
    write_log(tmp_path / "log", {"day=03/part.parquet": table.slice(0, 0)})
    with pytest.raises(BadInput) as caught:
        prepared(run)
    the_line(caught.value.problems, "day=03/part.parquet", "found 0")
    allowed = run.data.model_copy(update={"contract": run.data.contract.model_copy(update={"min_rows": 0})})
    assert len(open_rows(prepared(run.model_copy(update={"data": allowed}), "allowed"), "train")) == 420


def test_the_prepared_folder_says_what_was_read(tmp_path):
    run = run_on(tmp_path)
    out = prepared(run)
    about = json.loads((out / "log.json").read_text())
    assert (
        about["fingerprint"]
        == open_checked(run).fingerprint
        == json.loads((out / "data.json").read_text())["fingerprint"]
    )
    assert [file["num_rows"] for file in about["files"]] == [200, 200, 200]
    assert all(len(file["sha256"]) == 64 for file in about["files"])


def test_one_segment_is_what_its_rows_say(tmp_path):
    run = run_on(tmp_path)
    log = open_checked(run)
    (tmp_path / "out").mkdir()
    view = read_view(run, log, tmp_path / "out")
    piece = list(view.slices())[1]
    table = log_table(NUM_ROWS).slice(200, 200)
    assert piece.segment.row_id.tolist() == list(range(200, 400))
    values = piece.segment.values("item_id").to_pylist()
    (codes,) = piece.segment.codes("item_id")
    assert [values[code] for code in codes] == table.column("item_id").to_pylist()
    assert (piece.segment.numbers("price") == table.column("price").to_numpy().astype(np.float32)).all()
    lists = [[values[c] for c in row if c >= 0] for values, row in _lists(piece.segment, "categories up to 2")]
    assert lists == table.column("categories").to_pylist()


def _lists(segment, key):
    values = segment.values(key).to_pylist()
    return [(values, row) for row in zip(*segment.codes(key), strict=True)]


def test_parts_of_files_that_are_gone_are_removed(tmp_path):
    run = run_on(tmp_path)
    prepared(run)
    assert len(part_times(tmp_path)) == 3
    shutil.rmtree(tmp_path / "log/day=00")
    prepared(run, "fewer")
    assert len(part_times(tmp_path)) == 2


def test_the_negatives_of_a_repeated_event_go_with_it(tmp_path):
    """A log of positives, one of which was sent twice: no other row is taken for a repeat."""
    clean = log_table(NUM_ROWS, clicked=None).append_column("event_id", pa.array(np.arange(NUM_ROWS)))
    twice = pa.concat_tables([clean, clean.slice(40, 1)])
    log = write_log(tmp_path / "log", {"a.parquet": twice})
    data = make_run(log, tmp_path).data.model_dump(mode="json")
    data |= {"label": {"column": "sampled_label"}, "negatives": {"item": "item_id", "per_positive": 2, "by": "uniform"}}
    data |= {"contract": {"unique": ["event_id"], "max_quarantined": 0.01, "max_single_auc": 1.0}}
    features = {"ids": ["item_id"], "dense": [], "history": {"item": "item_id", "length": 3}}
    run = make_run(log, tmp_path, data=data, features=features)
    out = prepared(run)
    sampled = pq.read_table(next((tmp_path / "run").glob("sampled-*/a.parquet")), partitioning=None)
    gone = [row for row, positive in enumerate(sampled.column("positive").to_pylist()) if positive == NUM_ROWS]
    assert dropped_rows(out).tolist() == gone
    assert 1 < len(gone) <= 3
    events = np.load(out / "events/history.item_id.npy")
    assert len(events) == NUM_ROWS


def test_a_feature_that_was_taken_after_its_event_is_left_out(tmp_path):
    table = log_table(NUM_ROWS)
    times = table.column("timestamp").cast("int64").to_numpy()
    taken = pa.array(times - 5, mask=np.arange(NUM_ROWS) % 9 == 0).cast(pa.timestamp("us", tz="UTC"))
    table = spoilt(table.append_column("priced_at", taken), "priced_at", 222, table.column("timestamp")[599].as_py())
    out = prepared(run_on(tmp_path, table, {"not_after": ["priced_at"], "max_quarantined": 0.01}))
    assert dropped_rows(out).tolist() == [222]
    (line,) = pq.read_table(out / "quarantine.parquet").to_pylist()
    assert (line["column"], line["wanted"]) == ("priced_at", "a time not after the event's")

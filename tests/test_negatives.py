"""The log with drawn negatives: what its rows are, and that it is written once, whole, and the same again."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from conftest import read_log, write_log
from positives import HOUR, WAYS, hour_of, log_of, parted, run_of, sample

from recdistill import files
from recdistill.data.log import listing
from recdistill.data.log import read as logs
from recdistill.data.negatives import write as negatives_write
from recdistill.data.negatives.sampled import sampled_log

GLOBO = Path(__file__).resolve().parent.parent / "../shared/data/globo"


@pytest.mark.parametrize("by", WAYS)
def test_every_positive_is_followed_by_its_negatives_which_differ_in_the_item_alone(tmp_path, by):
    table = log_of()
    rows = sample(tmp_path, table, by=by)
    positive, negative = parted(rows)
    assert positive[table.column_names].astype(str).equals(table.to_pandas().astype(str))
    assert positive["positive"].tolist() == list(range(len(table)))
    assert rows["positive"].is_monotonic_increasing
    assert (rows.groupby("positive")["sampled_label"].first() == 1).all()
    assert len(negative) > 2 * len(positive)
    assert rows.groupby("positive").size().max() == 1 + 4
    source = positive.iloc[negative["positive"]]
    for name in ("user", "session", "at"):
        assert (negative[name].to_numpy() == source[name].to_numpy()).all()
    assert (negative["item"].to_numpy() != source["item"].to_numpy()).all()
    assert (rows["event"] == rows["sampled_label"]).all()


@pytest.mark.parametrize("by", WAYS)
def test_no_negative_is_a_positive_of_its_request_be_it_later(tmp_path, by):
    positive, negative = parted(sample(tmp_path, by=by))
    acted = set(zip(positive["session"], positive["item"], strict=True))
    assert len(negative) > 5000
    assert not acted & set(zip(negative["session"], negative["item"], strict=True))


def test_a_request_can_be_a_users_hour_or_one_positive(tmp_path):
    _, negative = parted(sample(tmp_path / "1", data={"request": {"column": "positive"}}))
    positive, inside = parted(sample(tmp_path / "2", data={"request": {"user_every": "hour"}}))
    acted = set(zip(positive["user"], hour_of(positive), positive["item"], strict=True))
    assert acted & set(zip(negative["user"], hour_of(negative), negative["item"], strict=True))
    assert len(inside) > 1000
    assert not acted & set(zip(inside["user"], hour_of(inside), inside["item"], strict=True))


def test_columns_of_the_item_come_along_as_they_were_before(tmp_path):
    """price holds the hour of the event it was read from."""
    rows = sample(tmp_path, item_columns=["tags", "price"])
    _, negative = parted(rows)
    assert len(negative) > 5000
    assert [list(tags) for tags in negative["tags"]] == [[str(item)] * 2 for item in negative["item"]]
    assert (negative["price"] // 100 == negative["item"]).all()
    age = hour_of(negative) - 470_000 - negative["price"] % 100
    assert age.min() == 1
    assert (age[negative["item"] < 3] == 1).all()  # items so frequent that every hour has them


@pytest.mark.parametrize("by", WAYS)
def test_the_same_seed_draws_the_same_however_rows_are_cut_and_another_one_does_not(tmp_path, monkeypatch, by):
    one = sample(tmp_path / "1", by=by)
    assert not one.equals(sample(tmp_path / "3", by=by, seed=1))
    monkeypatch.setattr(logs, "ROWS_PER_BATCH", 37)
    monkeypatch.setattr(negatives_write, "_ROWS_AT_ONCE", 55)
    monkeypatch.setattr("recdistill.data.negatives.catalogue._PENDING", 100)
    pd.testing.assert_frame_equal(one, sample(tmp_path / "2", by=by))


def test_rows_need_no_order_in_time(tmp_path):
    """Backwards, every row has the offset that it had, though other draws: those go by the row's number."""
    table = log_of()
    ahead, _ = parted(sample(tmp_path / "1", table, by="recent_popularity", recent="2h"))
    back, negative = parted(sample(tmp_path / "2", table[::-1], by="recent_popularity", recent="2h"))
    assert len(negative) > 5000
    assert back["offset"].tolist()[::-1] == ahead["offset"].tolist()


def test_ids_may_be_texts_and_dictionaries(tmp_path):
    table = log_of()
    text = pa.array([f"item-{i}" for i in table["item"].to_pylist()])
    drawn = {}
    for name, values in (("text", text), ("coded", text.dictionary_encode())):
        rows = sample(tmp_path / name, table.set_column(2, "item", values), item_columns=["price"])
        _, negative = parted(rows)
        assert (negative["item"].astype(str) == "item-" + (negative["price"] // 100).astype(str)).all()
        drawn[name] = negative["item"].astype(str).tolist()
    assert drawn["text"] == drawn["coded"]
    assert len(drawn["text"]) > 5000


def test_rows_without_an_item_stay_for_the_contract_and_are_never_drawn(tmp_path):
    table = log_of()
    item = table["item"].to_pylist()
    item[700], item[3000] = None, None
    at = table["at"].to_pylist()
    at[5] = None
    table = table.set_column(2, "item", pa.array(item)).set_column(5, "at", pa.array(at, pa.timestamp("us", "UTC")))
    positive, negative = parted(sample(tmp_path, table))
    assert positive["item"].isna().sum() == 2
    assert positive["at"].isna().sum() == 1
    assert negative["item"].notna().all()
    assert not set(negative["positive"]) & {5, 700, 3000}


def test_the_data_window_is_all_that_counts(tmp_path):
    """Item 7777 occurs before the window alone."""
    table = log_of()
    item = table["item"].to_numpy().copy()
    item[:500:2] = 7777
    start = pd.Timestamp(470_001 * HOUR, unit="us", tz="UTC").isoformat()
    rows = sample(tmp_path, table.set_column(2, "item", pa.array(item)), data={"start": start})
    assert len(rows) > 5000
    assert hour_of(rows).min() == 470_001
    assert 7777 not in set(rows["item"])
    assert rows["positive"].min() == 500


def test_a_second_call_writes_nothing_and_what_it_depends_on_makes_another(tmp_path):
    source = write_log(tmp_path / "log", {"a.parquet": log_of()})
    root = tmp_path / "run"
    run = run_of(source, root)
    log = listing.open_data(run.data)
    first = sampled_log(run, log, root)
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert sampled_log(run, log, root) == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    assert files.manifest(first)["found"]["positives"] == 4000
    others = [run_of(source, root, seed=1), run_of(source, root, per_positive=3)]
    others += [run_of(source, root, data={"end": "2099-01-01"})]
    folders = {sampled_log(other, log, root) for other in others}
    assert len(folders | {first}) == 4
    assert sampled_log(run.model_copy(update={"name": "other"}), log, root) == first


def test_a_damaged_sampled_log_is_written_again(tmp_path):
    source = write_log(tmp_path / "log", {"a.parquet": log_of()})
    run = run_of(source, tmp_path / "run")
    log = listing.open_data(run.data)
    folder = sampled_log(run, log, tmp_path / "run")
    whole = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(whole[:-100])
    assert sampled_log(run, log, tmp_path / "run") == folder
    assert (folder / "a.parquet").read_bytes() == whole


def test_a_killed_process_leaves_no_sampled_log(tmp_path):
    source = write_log(tmp_path / "log", {"a.parquet": log_of(), "b.parquet": log_of(seed=1)})
    (tmp_path / "run.json").write_text(run_of(source, tmp_path / "run").model_dump_json())
    code = (
        "import os, sys; from pathlib import Path; from recdistill.config.run import Run\n"
        "from recdistill.data.log import listing\n"
        "from recdistill.data.negatives import sampled, write\n"
        "run = Run.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "close = write._Writer.__exit__\n"
        "write._Writer.__exit__ = lambda self, *error: (close(self, *error), os._exit(9))\n"
        "sampled.sampled_log(run, listing.open_data(run.data), Path(run.folder))"
    )
    dead = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run.json")], timeout=60, env=os.environ)
    assert dead.returncode == 9
    left = list((tmp_path / "run").iterdir())
    assert len(left) == 1
    assert list(left[0].glob("*.parquet"))
    files.sweep(tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_the_news_log(tmp_path):
    """A day and a bit of real clicks: every hour but the first gets its negatives, hardly any draw is dropped."""
    if not GLOBO.is_dir():
        pytest.skip("../shared/data/globo is absent")
    data = {"time": "click_time", "user": "user_id", "request": {"column": "session_id"}, "end": "2017-10-01T08:00:00"}
    data |= {"partition": {"column": "day"}}
    run = run_of(GLOBO, tmp_path, data=data, item="click_article_id", by="recent_popularity")
    folder = sampled_log(run, listing.open_data(run.data), tmp_path)
    found = files.manifest(folder)["found"]
    rows = read_log(folder)
    assert [path.parent.name for path in folder.rglob("*.parquet")] == ["day=2017-10-01"]
    assert found["positives"] == (rows["sampled_label"] == 1).sum() > 5000
    assert found["negatives"] == (rows["sampled_label"] == 0).sum()
    drawn = 4 * (found["positives"] - found["nothing_known"])
    assert found["negatives"] + found["dropped"] == drawn
    assert found["dropped"] < 0.15 * drawn

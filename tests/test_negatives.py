"""Negatives of a log of positives: which items they are, how often each comes, and that scores stay calibrated."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from conftest import read_log, the_line, write_log

from recdistill import files
from recdistill.config import Run
from recdistill.data.log import listing
from recdistill.data.log import read as logs
from recdistill.data.negatives import write as negatives_write
from recdistill.data.negatives.sampled import kept, sampled_log
from recdistill.problems import BadInput

HOUR = 3_600_000_000
NUM_ITEMS = 12
GLOBO = Path(__file__).resolve().parent.parent / "../shared/data/globo"
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


@pytest.mark.parametrize(
    ("by", "span"), [("uniform", 99), ("popularity", 99), ("recent_popularity", 2), ("session", 2)]
)
def test_only_items_of_earlier_hours_come(tmp_path, by, span):
    """Item 100 + h appears in hour h alone."""
    table = log_of(num_hours=6)
    item = table["item"].to_numpy().copy()
    hour = hour_of(table.to_pandas())
    hour -= hour.min()
    item[::5] = 100 + hour[::5]
    _, negative = parted(sample(tmp_path, table.set_column(2, "item", pa.array(item)), by=by, recent="2h"))
    marked = negative[negative["item"] >= 100]
    born, at = marked["item"] - 100, hour_of(marked) - 470_000
    assert len(marked) > 500
    assert ((born < at) & (born >= at - span)).all()
    assert set(at - born) == set(range(1, min(span, 5) + 1))


def expected(table, by, power, last, span):
    """Shares of the items in hours [last - span, last), by hand."""
    rows = table.to_pandas()
    hour = hour_of(rows) - 470_000
    rows = rows[(hour >= last - span) & (hour < last)]
    events = rows.groupby("item").size()
    weight = events / 2 if by == "session" else events**power  # every session has two items, once each
    return (weight / weight.sum()).reindex(range(NUM_ITEMS), fill_value=0).to_numpy()


@pytest.mark.parametrize(
    ("by", "power", "span"),
    [
        ("uniform", 0, 99),
        ("popularity", 1, 99),
        ("popularity", 0.5, 99),
        ("recent_popularity", 0.75, 2),
        ("session", 1, 3),
    ],
)
def test_items_come_as_often_as_their_weight_says(tmp_path, by, power, span):
    """Draws among rows whose request lacks the item, in the last hour: chi-square over items, each within 5 sigma."""
    table = log_of(num_rows=30_000, num_hours=5)
    rows = sample(tmp_path, table, by=by, power=1 if by in ("uniform", "session") else power, recent=f"{min(span, 9)}h")
    positive, negative = parted(rows[hour_of(rows) == 470_004])
    share = expected(table, by, power, 4, span)
    acted = positive.groupby("session")["item"].agg(set)
    free = np.array([2 * sum(item not in items for items in acted) for item in range(NUM_ITEMS)])  # two rows a session
    wanted = 4 * share * free
    found = np.bincount(negative["item"], minlength=NUM_ITEMS)
    assert wanted.min() > 50
    assert ((found - wanted) ** 2 / wanted).sum() < NUM_ITEMS + 5 * np.sqrt(2 * NUM_ITEMS)
    offset = rows[hour_of(rows) == 470_004].groupby("item")["offset"]
    assert (offset.max() == offset.min()).all()
    np.testing.assert_allclose(offset.first(), -np.log(4 * share), rtol=1e-5)


def fitted(rows) -> np.ndarray:
    """One log-odds for each item, by maximum likelihood."""
    item, label, offset = (torch.tensor(rows[n].to_numpy()) for n in ("item", "sampled_label", "offset"))
    score = torch.zeros(NUM_ITEMS, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([score], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def loss():
        optimiser.zero_grad()
        logit = score[item] + offset.double()
        value = torch.nn.functional.binary_cross_entropy_with_logits(logit, label.double())
        value.backward()
        return value

    optimiser.step(loss)
    return score.detach().numpy()


@pytest.mark.parametrize(("by", "power"), [("uniform", 1), ("popularity", 0.5), ("recent_popularity", 1)])
def test_with_the_offset_a_fit_finds_the_odds_of_the_whole_catalogue_without_it_those_of_the_sample(
    tmp_path, by, power
):
    """Whole catalogue: each positive of a known hour meets every item that its request lacks, once."""
    table = log_of(num_rows=20_000, num_hours=4)
    rows = sample(tmp_path / "1", table, by=by, power=power)
    bare = sample(tmp_path / "2", table, by=by, power=power, correction="none")
    positive, negative = parted(rows[hour_of(rows) > 470_000])
    acted = positive.groupby("session")["item"].agg(set)
    free = np.array([2 * sum(item not in items for items in acted) for item in range(NUM_ITEMS)])
    true = np.log(np.bincount(positive["item"]) / free)
    error = 1 / np.sqrt(np.bincount(negative["item"]))
    assert (np.abs(fitted(rows) - true) < 4 * error).all()
    share = expected(table, "popularity" if by != "uniform" else by, {"uniform": 0}.get(by, power), 4, 99)
    wrong = fitted(bare[hour_of(bare) > 470_000])
    assert (bare["offset"] == 0).all()
    assert (np.abs(wrong - (true - np.log(4 * share))) < 4 * error + 0.05).all()  # shares move a little over the hours
    assert np.abs(wrong - true).max() > 10 * error.max()


def test_before_anything_is_known_a_positive_stands_alone_and_its_loss_is_nothing(tmp_path):
    rows = sample(tmp_path)
    first = rows[hour_of(rows) == 470_000]
    assert len(first) == 500
    assert (first["sampled_label"] == 1).all()
    assert (first["offset"] == negatives_write.NOTHING_KNOWN).all()
    later = rows[hour_of(rows) > 470_000]
    assert later["offset"].abs().max() < 10


def test_an_item_that_is_new_counts_as_the_rarest_known(tmp_path):
    table = log_of()
    item = table["item"].to_numpy().copy()
    item[-1] = 999
    positive, negative = parted(sample(tmp_path, table.set_column(2, "item", pa.array(item))))
    same_hour = pd.concat([positive, negative])[lambda rows: hour_of(rows) == 470_007]
    others = same_hour[same_hour["item"] != 999]
    assert positive["offset"].iloc[-1] == others["offset"].max()


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
        "import os, sys; from pathlib import Path; from recdistill.config import Run\n"
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


def refused(tmp_path, table=None, **options) -> list[str]:
    with pytest.raises(BadInput) as error:
        sample(tmp_path, table, **options)
    assert not list((tmp_path / "run").glob("*"))
    return error.value.problems


def test_all_that_does_not_fit_is_said_at_once(tmp_path):
    table = log_of(offset=pa.array(np.zeros(4000)))
    data = {"label": {"column": "clicked"}, "user": "who"}
    lines = refused(tmp_path, table, data=data, item="article", item_columns=["genre", "session"])
    assert len(lines) == 6
    for words in (("column article",), ("column genre",), ("column who",), ("column offset", "another name")):
        the_line(lines, *words)
    the_line(lines, "column session", "one that a negative may change")
    the_line(lines, "data.label.column", "label: {column: sampled_label}")


def test_an_item_is_an_id(tmp_path):
    table = log_of()
    lines = refused(tmp_path, table.set_column(2, "item", table["item"].cast(pa.float64())))
    the_line(lines, "column item", "strings or whole numbers", "double")


def test_more_negatives_than_items_are_refused(tmp_path):
    the_line(refused(tmp_path, per_positive=NUM_ITEMS), "more than data.negatives.per_positive = 12 items", "found 12")


def test_a_request_with_every_item_is_refused(tmp_path):
    table = log_of(session=np.zeros(4000, dtype=np.int64))
    the_line(refused(tmp_path, table), "an item outside of every request", "a request with all 12")


def test_a_log_without_rows_is_refused_and_a_file_without_rows_stays_for_the_contract(tmp_path):
    table = log_of()
    the_line(refused(tmp_path / "1", table[:0]), "a log with rows")
    source = write_log(tmp_path / "2/log", {"a.parquet": table, "b.parquet": table[:0]})
    run = run_of(source, tmp_path / "run")
    folder = sampled_log(run, listing.open_data(run.data), tmp_path / "run")
    assert [file.num_rows > 0 for file in listing.open_log(str(folder)).files] == [True, False]


def test_a_window_without_rows_is_refused(tmp_path):
    the_line(refused(tmp_path, data={"start": "2099-01-01"}), "column item", "found 0")


@pytest.mark.parametrize("recent", ["0h", "90m"])
def test_recent_is_in_whole_hours(tmp_path, recent):
    with pytest.raises(ValueError, match="whole hours"):
        run_of(tmp_path, tmp_path, recent=recent)


def test_thinning_keeps_positives_and_a_share_of_negatives_by_their_numbers():
    row_id = np.arange(100_000)
    label = (row_id % 4 == 0).astype(np.float32)
    stays = kept(row_id, label, 0.3, 7)
    assert stays[label == 1].all()
    sigma = np.sqrt(0.3 * 0.7 / 75_000)
    assert abs(stays[label == 0].mean() - 0.3) < 4 * sigma
    assert (kept(row_id[::-7], label[::-7], 0.3, 7) == stays[::-7]).all()
    assert (kept(row_id, label, 0.3, 8) != stays).any()
    assert (kept(row_id, label, 0.2, 7) <= stays).all()
    assert kept(row_id, label, 1.0, 7).all()


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

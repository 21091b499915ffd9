"""What prepare would make of a log, counted without it: equal to what prepare makes, whatever the features are."""

import pyarrow as pa
import pytest
from conftest import log_table, write_log

from recdistill.data import estimate as module
from recdistill.data.estimate import estimate
from recdistill.data.prepare import open_checked, prepare
from recdistill.data.store import open_rows
from recdistill.problems import BadInput

FEATURES = {
    "plain": ["item_id", "country"],
    "a list": ["item_id", {"column": "categories", "max_values": 2}],
    "rare values": [{"column": "user_id", "min_count": 12}, {"column": "item_id", "max_rows": 5}],
    "hashed": [{"column": "item_id", "hash_buckets": 7}],
    "bins": [{"column": "price", "edges": [1.0, 5.0]}, {"column": "item_id", "quantiles": 4, "name": "quarter"}],
    "a cross": [{"cross": ["item_id", "country"]}],
    "a calendar": [{"calendar": "hour"}, {"calendar": "weekday"}],
    "a shared table": [{"column": "item_id", "table": "ids"}, {"column": "user_id", "table": "ids"}],
}


@pytest.fixture
def both(tmp_path, tiny_run):
    """A function: the estimate of a run on a random log, and what prepare writes of it."""
    log = write_log(tmp_path / "log", {"a.parquet": log_table(900), "b.parquet": log_table(300, seed=1)})

    def build(data=None, seed=1, **features):
        run = tiny_run(
            seed=seed, data={"source": str(log), **(data or {})}, features={"dense": [], "history": None, **features}
        )
        found = estimate(run, open_checked(run))
        out = tmp_path / "out"
        out.mkdir()
        prepare(run, {}, out)
        return found, {name: open_rows(out, name) for name in ("train", "valid", "test")}

    return build


@pytest.mark.parametrize("name", FEATURES)
def test_rows_and_tables_are_those_of_prepare(both, name):
    found, windows = both(ids=FEATURES[name])
    assert found.num_rows == {name: len(rows) for name, rows in windows.items()}
    assert found.layout == windows["train"].layout


def test_a_history_has_its_tables_and_its_events(both):
    found, windows = both(ids=["item_id"], history={"item": "item_id", "outcomes": ["clicked"], "length": 4})
    assert found.layout == windows["train"].layout
    assert found.num_events == len(windows["train"].events["history.item_id"])


def test_other_outcomes_are_named_and_no_features(both):
    found, windows = both(data={"tasks": [{"name": "dear", "column": "price", "at_least": 5.0}]}, ids=["item_id"])
    assert found.layout == windows["train"].layout
    assert found.layout.tasks == ("dear",)


def test_only_rows_inside_the_data_window_count(both):
    start = pa.scalar(1_700_500_000_000_000, pa.timestamp("us", "UTC")).as_py()
    found, windows = both(data={"start": start.isoformat()}, ids=["item_id"])
    assert found.num_rows == {name: len(rows) for name, rows in windows.items()}
    assert sum(found.num_rows.values()) < 1200


@pytest.mark.parametrize("seed", [0, 1])
def test_negatives_that_are_left_out_do_not_count(both, seed):
    found, windows = both(data={"keep_negatives": 0.25}, seed=seed, ids=["item_id", "user_id"])
    assert found.num_rows == {name: len(rows) for name, rows in windows.items()}
    assert found.num_rows["train"] < 2 * windows["train"]["label"].sum()
    assert found.layout == windows["train"].layout


def test_drawn_negatives_are_rows_but_no_events(tmp_path, tiny_run):
    table = log_table(600, clicked=None, categories=None, price=None)
    log = write_log(tmp_path / "log", {"a.parquet": table})
    negatives = {"item": "item_id", "per_positive": 2}
    data = {"source": str(log), "label": {"column": "sampled_label"}, "negatives": negatives}
    history = {"item": "item_id", "outcomes": [], "length": 4}
    run = tiny_run(data=data, features={"ids": ["item_id", "user_id"], "dense": [], "history": history})
    found = estimate(run, open_checked(run))
    out = tmp_path / "out"
    out.mkdir()
    prepare(run, {}, out)
    windows = {name: open_rows(out, name) for name in ("train", "valid", "test")}
    assert found.num_rows == {name: len(rows) for name, rows in windows.items()}
    assert sum(found.num_rows.values()) > found.num_events == len(windows["train"].events["history.item_id"])
    assert found.layout == windows["train"].layout


def test_above_its_limit_the_number_of_values_is_estimated(both, monkeypatch):
    monkeypatch.setattr(module, "_EXACT", 20)
    found, windows = both(ids=["item_id"])
    assert found.layout == windows["train"].layout  # so few are all hashed apart


def test_a_log_without_rows_in_the_window_is_bad_input(tmp_path, tiny_run):
    log = write_log(tmp_path / "log", {"a.parquet": log_table(100)})
    run = tiny_run(data={"source": str(log), "start": "2100-01-01"})
    with pytest.raises(BadInput, match="data window: wanted rows, found none"):
        estimate(run, open_checked(run))

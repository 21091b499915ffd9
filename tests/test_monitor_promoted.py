"""Drift against the champion's window, a real server's health, and the staleness curve, on a tiny promoted run."""

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import make_run
from serve_world import call as ask
from serve_world import server

from recdistill.files import MANIFEST
from recdistill.monitor.drifted import watch_drift
from recdistill.monitor.finding import of_drift, of_health, of_staleness
from recdistill.monitor.health import quantile, watch_health
from recdistill.monitor.staleness import longest, staleness, summary
from recdistill.pipeline import run_all
from recdistill.problems import BadInput

LENIENT = {"floors": {"auc": 0.3}, "control_margin": -1.0, "max_ece": 1.0, "max_parameter_share": 1.0}


def days(log):
    """Where each day of a log by days begins, and where it ends."""
    times = [pq.read_table(path).column("timestamp") for path in sorted(log.rglob("*.parquet"))]
    first = min(pc.min(one).as_py() for one in times).replace(hour=0, minute=0, second=0, microsecond=0)
    return [first + timedelta(days=day) for day in range(len(times) + 1)]


@pytest.fixture(scope="module")
def promoted(tiny_log, _migrated, tmp_path_factory):
    """(run, begins of days) whose champion was trained on all days but the last."""
    root = tmp_path_factory.mktemp("promoted")
    shutil.copy(_migrated, root / "mlflow.db")
    shutil.copytree(tiny_log, root / "log")
    begins = days(tiny_log)
    sections = {"gates": LENIENT, "monitor": {"max_psi": 2.0}}  # 40 users a day: by chance alone psi is about 1
    run = make_run(root / "log", root, student={"seeds": 1}, data={"end": begins[-2].isoformat()}, **sections)
    run_all(run)
    return run, begins


def changed(run, tmp_path, column, values):
    """The run on a log whose last day has other values in a column."""
    folder = shutil.copytree(run.data.source, tmp_path / "changed")
    (folder / MANIFEST).unlink(missing_ok=True)
    path = sorted(folder.rglob("*.parquet"))[-1]
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, column, pa.array(values(table), table.schema.field(column).type)), path)
    return run.model_copy(update={"data": run.data.model_copy(update={"source": str(folder)})})


@pytest.mark.slow
def test_a_day_like_those_before_has_no_drift_and_one_of_other_prices_and_items_has(promoted, tmp_path):
    run, begins = promoted
    quiet = of_drift(watch_drift(run, begins[-2], begins[-1]))
    assert quiet.alarms == []
    names = {one["feature"] for one in quiet.found["features"]}
    assert {"item_id", "price", "country", "history.item_id", "history.item_id (length)"} <= names
    dearer = changed(run, tmp_path / "a", "price", lambda table: table.column("price").to_numpy() * 50)
    found = of_drift(watch_drift(dearer, begins[-2], begins[-1]))
    assert [line.split(":")[0] for line in found.alarms] == ["drift of price"]
    newer = changed(run, tmp_path / "b", "item_id", lambda table: table.column("item_id").to_numpy() + 10**6)
    told = " ".join(of_drift(watch_drift(newer, begins[-2], begins[-1])).alarms)
    assert "drift of item_id" in told
    with pytest.raises(BadInput, match="wanted rows, found none"):
        watch_drift(run, begins[-1] + timedelta(days=9), begins[-1] + timedelta(days=10))


@pytest.mark.slow
def test_drift_without_a_champion_or_without_its_rows_is_refused(promoted, tmp_path, mlflow_uri):
    run, begins = promoted
    empty = {"registry": run.registry.model_copy(update={"tracking_uri": mlflow_uri}), "root": str(tmp_path / "empty")}
    nobody = run.model_copy(update=empty)
    with pytest.raises(BadInput, match="wanted a champion, found none"):
        watch_drift(nobody, begins[-2], begins[-1])
    elsewhere = run.model_copy(update={"root": str(tmp_path / "elsewhere")})
    with pytest.raises(BadInput, match="prepare folder"):
        watch_drift(elsewhere, begins[-2], begins[-1])


@pytest.mark.slow
def test_a_servers_health_is_what_it_did_since_the_last_look(promoted, tmp_path):
    run, begins = promoted
    uri = run.registry.tracking_uri
    arguments = [f"models:/{run.model}@champion", "--tracking-uri", uri, "--workers", 1, "--state", tmp_path]
    with server(*arguments) as (address, _):
        for _ in range(5):
            assert ask(address, "/score", {"user": {}})[0] == 400
        first = watch_health(run, address, begins[-1])
        fine = {check["name"]: check["fine"] for check in first["checks"]}
        assert fine == dict.fromkeys(fine, True)
        assert first["requests"] >= 5
        again = watch_health(run, address, begins[-1] + timedelta(days=30))
        assert again["requests"] < first["requests"]
        late = of_health(again)
        assert len(late.alarms) == 1
        assert "data_age_s" in late.alarms[0]
    with pytest.raises(BadInput, match="server's answer"):
        watch_health(run, address, begins[-1])


@pytest.mark.slow
def test_the_staleness_curve_has_an_age_a_window_and_nothing_is_trained_twice(tiny_log, _migrated, tmp_path):
    shutil.copy(_migrated, tmp_path / "mlflow.db")
    begins = days(tiny_log)
    split = {"valid_from": begins[4], "test_from": begins[5], "until": begins[6], "every": "1d"}
    run = make_run(tiny_log, tmp_path, student={"seeds": 1}, data={"split": {k: str(v) for k, v in split.items()}})
    found = staleness(run, 2)
    assert [(one["age"], one["pairs"]) for one in found["curve"]] == [(1, 2), (2, 1)]
    assert all(one["loss"][1] <= one["loss"][0] <= one["loss"][2] for one in found["curve"])
    assert 1 <= found["interval"]["low"] <= found["interval"]["high"] <= 3
    folders = sorted((tmp_path / "run").glob("train_teacher-*"))
    assert len(folders) == 3
    before = [path.stat().st_mtime_ns for path in folders]
    assert staleness(run, 2) == found
    assert [path.stat().st_mtime_ns for path in folders] == before
    assert of_staleness(found).lines[-1].startswith("retrain every")
    with pytest.raises(BadInput, match=r"data\.split"):
        staleness(make_run(tiny_log, tmp_path), 1)


def test_the_interval_is_the_longest_whose_mean_loss_is_small_enough():
    loss = np.array([[0.0, 0.002, 0.01], [0.0, 0.004, 0.0], [0.0, 0.1, 0.0]])
    # means of 2, 3 and 4 windows: 0, 0, 0 | .001, .002, .0265 | .005, .0033, .0025
    assert longest(loss, 0.002).tolist() == [4, 3, 1]


def test_a_loss_that_grows_suggests_an_interval_and_says_how_sure_it_is():
    run = make_run(Path("nowhere"), Path("nowhere"))
    generator = np.random.default_rng(0)

    def draws(mean):
        drawn = generator.normal(mean, 0.0002, 101)
        drawn[0] = mean
        return drawn

    losses = {age: [draws(0.001 * age) for _ in range(6 - age)] for age in range(1, 6)}
    found = summary(run, losses)
    # retrained every I windows, the mean loss is 0.001 (I - 1) / 2: at most 0.002 up to I = 5
    assert found["interval"]["windows"] == 5
    assert 4 <= found["interval"]["low"] <= 5 <= found["interval"]["high"] <= 6
    assert found["curve"][2]["loss"][0] == pytest.approx(0.003)


def test_a_quantile_lies_within_its_bucket_as_prometheus_has_it():
    grown = {"h_bucket{le=1.0}": 50.0, "h_bucket{le=3.0}": 90.0, "h_bucket{le=+Inf}": 100.0}
    assert quantile(grown, "h", 0.7) == 1 + 2 * (70 - 50) / 40
    assert quantile(grown, "h", 0.99) == 3.0
    assert quantile(dict.fromkeys(grown, 0.0), "h", 0.5) is None
    assert quantile({}, "h", 0.5) is None

"""Quality by delayed labels: each closed window once, with its labels in time; the alarm when quality falls."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from conftest import make_run, the_line
from monitor_world import DAY_US, FIRST, as_log, requests, written
from prometheus_client.parser import text_string_to_metric_families

from recdistill.metrics.ranking import plain_auc
from recdistill.monitor.finding import keep, of_quality
from recdistill.monitor.quality import watch_quality
from recdistill.monitor.scored import join, read_labels, read_scored
from recdistill.problems import BadInput

QUICK = {"draws": 50, "min_rows": 50, "false_alarm_every": 100}


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "nowhere", tmp_path, monitor={**QUICK, "slices": ["country"]})


def watched(run, tmp_path, scored, labels, until=None):
    paths = written(tmp_path / "files", scored=scored, labels=labels)
    return watch_quality(run, paths["scored"], paths["labels"], until)


def at(day):
    return datetime.fromtimestamp((FIRST + day * DAY_US) / 1e6, UTC)


def test_every_closed_window_has_the_metrics_of_its_rows_and_a_calibration_of_one(run, tmp_path):
    scored, labels = requests(6, per_day=400)
    found = watched(run, tmp_path, scored, labels, until=at(6))
    assert [window["start"] for window in found["windows"]] == [at(day).isoformat() for day in range(5)]
    for day, window in enumerate(found["windows"]):
        mask = (scored.column("timestamp").cast(pa.int64()).to_numpy() - FIRST) // DAY_US == day
        one = window["slices"]["all"]
        assert one["rows"] == window["rows"] == mask.sum()
        value = plain_auc(scored.column("score").to_numpy()[mask], labels.column("clicked").to_numpy()[mask])
        assert one["metrics"]["auc"][0] == pytest.approx(value)
        value, low, high = one["metrics"]["calibration"]
        assert low < value < high
        assert abs(value - 1) < 0.2
        assert window["slices"]["country=de"]["rows"] + window["slices"]["country=fr"]["rows"] == one["rows"]
        assert f"model={'old' if day < 5 else 'new'}" in window["slices"]


def test_the_servers_log_and_rows_by_candidate_give_the_same(run, tmp_path):
    scored, labels = requests(4)
    by_row = watched(run, tmp_path, scored, labels, until=at(5))
    other = run.model_copy(update={"root": str(tmp_path / "other")})
    as_strings = labels.set_column(0, "request_id", labels.column("request_id").cast(pa.string()))
    assert watched(other, tmp_path, as_log(scored), as_strings, until=at(5))["windows"] == by_row["windows"]


def test_windows_are_judged_once_and_a_second_look_with_the_same_files_changes_nothing(run, tmp_path):
    scored, labels = requests(5)
    first = watched(run, tmp_path, scored, labels, until=at(4))
    again = watched(run, tmp_path, scored, labels, until=at(4))
    assert (len(first["new"]), again["new"]) == (3, [])
    assert again["windows"] == first["windows"]
    only_new = scored.filter(pa.array(scored.column("timestamp").cast(pa.int64()).to_numpy() >= FIRST + 3 * DAY_US))
    later = watched(run, tmp_path, only_new, labels, until=at(6))  # the old part of the log may be gone
    assert later["windows"][:3] == first["windows"]
    fresh = run.model_copy(update={"root": str(tmp_path / "fresh")})
    assert watched(fresh, tmp_path, scored, labels, until=at(6))["windows"] == later["windows"]


def test_labels_that_are_late_are_counted_and_change_nothing_whenever_one_looks(run, tmp_path):
    scored, labels = requests(3)
    labels = labels.filter(pc.equal(labels.column("clicked"), 1))
    moved = labels.column("timestamp").cast(pa.int64()).to_numpy().copy()
    moved[:40] += DAY_US + 1
    came = labels.set_column(2, "timestamp", pa.array(moved).cast(pa.timestamp("us", tz="UTC")))
    late = watched(run, tmp_path, scored, came, until=at(9))
    other = run.model_copy(update={"root": str(tmp_path / "other")})
    never = watched(other, tmp_path, scored, labels.slice(40), until=at(9))
    assert (late["late"], never["late"]) == (40, 0)
    assert late["windows"] == never["windows"]


def test_a_row_without_a_label_is_a_negative_or_no_row(run, tmp_path):
    scored, labels = requests(2)
    clicks = labels.filter(pc.equal(labels.column("clicked"), 1))
    whole = watched(run, tmp_path, scored, labels, until=at(5))
    assert watched(other_run(run, tmp_path, "a"), tmp_path, scored, clicks, until=at(5))["windows"] == whole["windows"]
    settings = run.monitor.model_copy(update={"unlabelled": "left_out"})
    found = watched(run.model_copy(update={"monitor": settings}), tmp_path, scored, clicks, until=at(5))
    assert [w["unlabelled"] for w in found["windows"]] == [
        w["rows"] - w["slices"]["all"]["positives"] for w in whole["windows"]
    ]
    assert found["windows"][0]["slices"]["all"]["metrics"] == {}  # one class has no AUC


def other_run(run, tmp_path, name):
    return run.model_copy(update={"root": str(tmp_path / name)})


def test_a_request_that_was_scored_twice_counts_once_with_what_was_answered_first(run, tmp_path):
    scored, labels = requests(2)
    wrong = scored.slice(0, 30).set_column(5, "score", pa.array(np.full(30, 9.0, np.float32)))
    paths = written(tmp_path, scored=pa.concat_tables([scored, wrong]), labels=labels)
    found = join(read_scored(run, paths["scored"], 0), read_labels(run, paths["labels"]), timedelta(days=1), 0.0)
    assert found.repeated == 30
    assert found.rows.column("score").to_pylist() == scored.column("score").cast(pa.float64()).to_pylist()
    assert found.rows.column("label").to_pylist() == labels.column("clicked").cast(pa.float64()).to_pylist()


@pytest.mark.parametrize(("broken", "metric"), [({"blind": True}, "auc"), ({"shift": 1.5}, "log_calibration")])
def test_the_alarm_fires_soon_after_quality_falls_and_says_where(run, tmp_path, broken, metric):
    scored, labels = requests(24, from_day=18, seed=2, **broken)
    found = watched(run, tmp_path, scored, labels, until=at(26))
    fired = [one for one in found["alarms"] if one["metric"] == metric and one["slice"] == "all"]
    assert fired
    assert at(18) <= datetime.fromisoformat(fired[0]["window"]) <= at(21)
    assert [one for one in found["alarms"] if datetime.fromisoformat(one["window"]) < at(18)] == []
    finding = of_quality(run, found)
    assert any(f"{metric} of all in the window from" in line for line in finding.alarms)
    assert any("ALARM" in line for line in finding.lines)
    keep(run, finding, tmp_path / "prom")
    (path,) = (tmp_path / "prom").iterdir()
    samples = {s.name: s for family in text_string_to_metric_families(path.read_text()) for s in family.samples}
    assert samples["recdistill_monitor_quality_alarms"].value == len(found["alarms"])
    assert samples["recdistill_monitor_quality_windows"].value == 24
    assert samples["recdistill_monitor_alarms_now"].labels == {"model": "tiny-student", "kind": "quality"}
    assert json.loads((tmp_path / "run" / "monitor" / "quality.json").read_text())["alarms_now"] == finding.alarms
    assert of_quality(run, watched(run, tmp_path, scored, labels, until=at(26))).alarms == []  # told once


def test_all_that_is_wrong_with_the_files_is_told_at_once(run, tmp_path):
    scored, labels = requests(1)
    paths = written(
        tmp_path, scored=scored.drop_columns(["item_id", "country"]), labels=labels.drop_columns(["clicked"])
    )
    with pytest.raises(BadInput) as error:
        read_scored(run, paths["scored"], 0)
    assert len(error.value.problems) == 2
    the_line(error.value.problems, "column country")
    with pytest.raises(BadInput, match="column clicked"):
        read_labels(run, paths["labels"])
    paths["labels"].write_bytes(b"no Parquet")
    with pytest.raises(BadInput, match="readable Parquet"):
        read_labels(run, paths["labels"])
    without = run.model_copy(update={"features": run.features.model_copy(update={"history": None})})
    with pytest.raises(BadInput, match=r"monitor\.key"):
        read_labels(without, paths["labels"])


def test_without_label_times_it_must_be_said_until_when_they_are_complete(run, tmp_path):
    scored, labels = requests(2)
    with pytest.raises(BadInput, match="--until"):
        watched(run, tmp_path, scored, labels.drop_columns(["timestamp"]))
    assert len(watched(run, tmp_path, scored, labels.drop_columns(["timestamp"]), until=at(3))["new"]) == 2


def test_the_command_prints_a_table_and_ends_with_one_where_an_alarm_is_new(run, tmp_path, call):
    scored, labels = requests(24, from_day=18, seed=2, blind=True)
    paths = written(tmp_path / "files", scored=scored, labels=labels)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run.model_dump(mode="json")))
    arguments = ["monitor", "quality", tmp_path / "run.yaml", paths["scored"], paths["labels"], "--until", "2030-01-01"]
    status, out, _ = call(*arguments)
    assert status == 1
    assert json.loads(out.splitlines()[-1])["alarms"]
    assert "calibration" in out.splitlines()[0]
    assert call(*arguments)[0] == 0
    assert call(*arguments[:3], tmp_path / "none", paths["labels"])[0] == 2

"""What a run ends with, read from the folders of three steps, and the tables made of it."""

import pytest
from conftest import make_run

from recdistill.files import write_json
from recdistill.metrics.measure import HIGHER_IS_BETTER
from recdistill.result import result, tables

VALUES = {name: [0.61234 + place / 100, 0.6, 0.7] for place, name in enumerate(HIGHER_IS_BETTER)}


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "log", tmp_path)


@pytest.fixture
def folders(tmp_path):
    gates = [
        {"name": "auc floor", "verdict": "PASS", "found": "0.6123", "wanted": ">= 0.5"},
        {"name": "auc over champion, low end", "verdict": "NO_BASELINE", "found": "no champion", "wanted": "> -0.002"},
    ]
    report = {
        "models": dict.fromkeys(("teacher", "student", "control", "shipped"), VALUES),
        "gain": {**VALUES, "auc": [0.01234, -0.001, 0.02]},
        "gap": VALUES,
        "recovery": [0.5, 0.25, 0.75],
    }
    files = {
        "evaluate/report.json": report,
        "publish/published.json": {"model": "tiny-student", "version": "3"},
        "decide/decision.json": {"verdict": "PASS", "gates": gates, "parameter_share": 0.05},
    }
    for name, value in files.items():
        (tmp_path / name).parent.mkdir()
        write_json(tmp_path / name, value)
    return {name: tmp_path / name for name in ("evaluate", "publish", "decide")}


def test_a_result_is_one_flat_value_of_json(run, folders, tmp_path):
    found = result(run, folders)
    assert found["student"] == VALUES
    assert found["gain"]["auc"] == [0.01234, -0.001, 0.02]
    assert found["recovery"] == [0.5, 0.25, 0.75]
    assert (found["verdict"], found["model"], found["version"]) == ("PASS", "tiny-student", "3")
    assert (found["parameter_share"], found["run_dir"]) == (0.05, run.folder)
    write_json(tmp_path / "out.json", found)


def test_the_tables_show_every_metric_model_and_gate(run, folders):
    text = tables(result(run, folders))
    assert max(map(len, text.splitlines())) <= 150
    for metric, higher in HIGHER_IS_BETTER.items():
        (line,) = [line for line in text.splitlines() if f" {metric} {'up' if higher else 'down'} " in line]
        assert f"{VALUES[metric][0]:.4f}" in line
    assert "+0.0123" in text
    assert "-0.0010" in text
    for word in ("teacher", "student", "control", "auc floor", "NO_BASELINE", "Gates: PASS"):
        assert word in text


def test_what_could_not_be_measured_is_shown_as_none(run, folders):
    found = result(run, folders)
    found["recovery"] = [None, None, None]
    found["control"] = {**VALUES, "auc": [None, None, None]}
    text = tables(found)
    assert [line for line in text.splitlines() if "recovery" in line and "none" in line]
    assert [line for line in text.splitlines() if " auc up " in line and "none" in line]


def test_a_metric_that_was_not_taken_has_no_line(run, folders):
    found = result(run, folders)
    for model in ("teacher", "student", "control", "shipped"):
        found[model] = {"auc": VALUES["auc"]}
    assert "ndcg" not in tables(found)

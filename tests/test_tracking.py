"""What MLflow is told of drift: two metrics and the table, once however often a run is logged, or nothing."""

import numpy as np
import pytest

from recdistill.data.store import Rows, record_type
from recdistill.data.watch.drift import drift, write_drift
from recdistill.files import write_json
from recdistill.promotion.registry import open_registry
from recdistill.tracking.record import log_run
from recdistill.types import IdFeature, Layout

ITEM = IdFeature(name="item", table="item", start=0, width=1, num_rows=9, kind="single")
MODELS = ("teacher", "student", "control", "shipped")


def window(item):
    records = np.zeros(len(item), record_type(1, 0))
    records["ids"][:, 0] = item
    return Rows(layout=Layout(ids=(ITEM,), dense=()), records=records, events={})


@pytest.fixture
def steps(tmp_path):
    """The folders of a run that has been decided, with the least that logging reads."""
    auc = {"auc": [0.7, 0.6, 0.8]}
    report = {"models": dict.fromkeys(MODELS, auc), "gain": auc, "gap": auc, "recovery": [0.5, 0.4, 0.6]}
    rows = {name: {"rows": 10} for name in ("train", "valid", "test")}
    files = {
        "evaluate/report.json": report,
        "decide/decision.json": {"verdict": "PASS", "gates": []},
        "prepare/data.json": {"source": "log", "fingerprint": "f" * 64, "windows": {"start": 0, "end": 9}, **rows},
        "train_teacher/teacher.json": {"parameters": 10, "device": "cpu", "curve": []},
        "distil/students.json": {"parameters": 1, "curves": {"student": [], "control": []}},
        "export/export.json": {"shipped": "student-0"},
        "export/student-0/bundle.json": {},
    }
    for name, value in files.items():
        path = tmp_path / "steps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)
    return {path.name: path for path in (tmp_path / "steps").iterdir()}


def logged(run, steps):
    """The metrics of the parent's history, and its artifacts' names."""
    registry = open_registry(run)
    run_id, _ = log_run(run, registry, steps, "0" * 64)
    client = registry.client
    names = [one for one in client.get_run(run_id).data.metrics if one.startswith("drift.")]
    found = {name: [metric.value for metric in client.get_metric_history(run_id, name)] for name in names}
    return found, {file.path for file in client.list_artifacts(run_id)}


def test_drift_is_two_metrics_and_a_table_however_often_it_is_logged(tiny_run, mlflow_uri, steps):
    train = window([2, 3] * 50)
    table = drift({"train": train, "valid": train, "test": window([2, 2, 3, 1])}, np.zeros_like, ["all"])
    write_drift(steps["prepare"], table)
    for _ in range(2):
        metrics, artifacts = logged(tiny_run(), steps)
        (psi,) = metrics["drift.max_psi"]
        assert psi > 0.1
        assert metrics == {"drift.max_psi": [psi], "drift.max_unknown": [0.25]}
        assert {"drift.parquet", "drift.json", "data.json", "bundle"} <= artifacts


def test_a_run_whose_drift_was_not_measured_is_logged_without(tiny_run, mlflow_uri, steps):
    metrics, artifacts = logged(tiny_run(), steps)
    assert metrics == {}
    assert "data.json" in artifacts
    assert not any("drift" in name for name in artifacts)

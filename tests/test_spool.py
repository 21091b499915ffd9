"""Curves that wait on disk: whole lines in order, and each point once in the store however a delivery was cut."""

import json

import pytest

from recdistill.promotion.registry import open_store
from recdistill.tracking.deliver import deliver, deliver_all
from recdistill.tracking.early import Session
from recdistill.tracking.spool import Spool


def begun(uri: str) -> dict:
    about = Session(uri=uri, experiment="tiny", name="tiny", live="a" * 64, owner={"recdistill.pid": "1"})
    return {"begin": about.to_json()}


def point(step: int, **metrics: float) -> dict:
    return {"child": "teacher", "at": 1_700_000_000_000 + step, "step": step, "metrics": metrics}


def histories(uri: str) -> dict:
    """Child's name -> metric -> [(step, value)] in the order of the store."""
    client = open_store(uri, "").client
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    return {
        run.info.run_name: {
            name: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        for run in runs
    }


@pytest.fixture
def spool(tmp_path):
    return Spool(folder=tmp_path / "runs/one")


def test_a_line_that_a_kill_cut_is_no_entry_and_harms_none_after_it(spool):
    spool.append({"step": 1})
    with spool.path.open("ab") as file:
        file.write(b'{"step": 2, "metr')
    assert spool.entries() == [{"step": 1}]
    spool.append({"step": 3})
    assert spool.entries() == [{"step": 1}, None, {"step": 3}]


def test_what_is_acknowledged_is_remembered_and_cleared_only_when_all_of_it_is(spool):
    for step in range(3):
        spool.append({"step": step})
    with spool.delivery() as sent:
        assert sent == 0
        spool.acknowledge(2)
    spool.clear()
    assert len(spool.entries()) == 3
    with spool.delivery() as sent:
        assert sent == 2
        spool.acknowledge(3)
    spool.clear()
    assert spool.entries() == []
    spool.append({"step": 9})
    with spool.delivery() as sent:
        assert sent == 0


def test_points_arrive_in_order_and_once_even_when_no_acknowledgement_was_written(spool, mlflow_uri):
    for entry in [begun(mlflow_uri), *(point(step, loss=1 / step, auc=0.5) for step in (10, 20, 30))]:
        spool.append(entry)
    assert deliver(spool.folder) == 4
    spool.append(point(40, loss=0.025))
    with spool.delivery():
        spool.acknowledge(0)  # as if killed between the call and the acknowledgement
    assert deliver(spool.folder) == 5
    assert deliver(spool.folder) == 0
    found = histories(mlflow_uri)
    assert found["tiny"] == {}
    assert found["teacher"]["loss"] == [(10, 0.1), (20, 0.05), (30, 1 / 30), (40, 0.025)]
    assert found["teacher"]["auc"] == [(10, 0.5), (20, 0.5), (30, 0.5)]


def test_an_end_closes_what_no_record_adopted(spool, mlflow_uri):
    for entry in [begun(mlflow_uri), point(10, loss=0.1), {"end": "FAILED"}]:
        spool.append(entry)
    assert deliver_all(spool.folder.parent) == 3
    client = open_store(mlflow_uri, "").client
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert [run.info.status for run in runs] == ["FAILED", "FAILED"]


def test_a_store_that_is_away_leaves_the_spool_as_it_was(spool, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for entry in [begun("http://127.0.0.1:9"), point(10, loss=0.1)]:
        spool.append(entry)
    before = spool.path.read_bytes()
    with pytest.raises(ValueError, match="wanted a tracking store"):
        deliver(spool.folder)
    assert spool.path.read_bytes() == before
    with spool.delivery() as sent:
        assert sent <= 1
    assert json.loads(before.splitlines()[-1])["step"] == 10

"""Curves in a real MLflow server while they grow; slow: the server frozen, and killed, while a student learns."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import make_run
from mlflow_server import MlflowServer

from recdistill.pipeline import run_all
from recdistill.promotion.registry import open_store
from recdistill.tracking.deliver import deliver
from recdistill.tracking.reconcile import close_dead_runs
from recdistill.tracking.spool import Spool

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
LENIENT = {"floors": {"auc": 0.3}, "control_margin": -1.0, "max_ece": 1.0, "max_parameter_share": 1.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory, _migrated):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(_migrated, folder / "mlflow.db")
    here = MlflowServer(folder)
    here.start()
    yield here
    here.kill()


@pytest.fixture(autouse=True)
def _short_calls(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")


@pytest.fixture
def run(server, tiny_log, tmp_path):
    student = {"seeds": 1, "epochs": 30, "checks_per_epoch": 1, "patience": 30}
    registry = {"tracking_uri": server.url, "artifacts": None, "experiment": tmp_path.name}
    return make_run(tiny_log, tmp_path, student=student, gates=LENIENT, registry=registry)


def begin(run, tmp_path) -> subprocess.Popen:
    """The run in a process of its own, as `recdistill distil` does it."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(run.model_dump(mode="json")))
    words = ["-m", "recdistill", "distil", str(path)]
    with (tmp_path / "log").open("w") as log:
        return subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=log, stderr=log)


def until(condition, process: subprocess.Popen, tmp_path, timeout_s: float = 240.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.2)


def checks(run) -> int:
    return sum("metrics" in (entry or {}) for entry in Spool(folder=Path(run.folder)).entries())


def runs_of(run, status: str | None = None):
    client = open_store(run.registry.tracking_uri, "").client
    experiment = client.get_experiment_by_name(run.experiment)
    found = [] if experiment is None else client.search_runs([experiment.experiment_id])
    return {one.info.run_name: one for one in found if status in (None, one.info.status)}


def curve(run, child: str, name: str) -> list[int]:
    """The steps of one metric, every point that the server has."""
    client = open_store(run.registry.tracking_uri, "").client
    return [one.step for one in client.get_metric_history(runs_of(run)[child].info.run_id, name)]


def published_once(run, folders) -> None:
    """Every check of both arms is in the server once, and the runs ended as one parent with three children."""
    from recdistill.files import read_json

    curves = read_json(folders["distil"] / "students.json")["curves"]
    for arm in ("student", "control"):
        (wanted,) = curves[arm]
        assert len(wanted) >= 2
        assert sorted(curve(run, arm, "seed_0.valid_auc")) == [check["step"] for check in wanted]
    found = runs_of(run)
    assert sorted(found) == ["control", "student", "teacher", run.name]
    assert {one.info.status for one in found.values()} == {"FINISHED"}
    assert not Spool(folder=Path(run.folder)).path.exists()


def test_curves_are_seen_while_they_grow_and_once_when_the_run_is_published(run):
    seen: list[int] = []

    class Look:
        """Between two steps: what the server had by then."""

        def __call__(self, step, *rest):
            from recdistill.pipeline import plain_call

            plain_call(step, *rest)
            if step.name == "distil":
                time.sleep(5)
                seen.extend(curve(run, "control", "seed_0.valid_auc"))
                assert runs_of(run, "RUNNING").keys() >= {"control", run.name}

    done = run_all(run, call=Look())
    assert len(seen) >= 2
    published_once(run, done.folders)


def test_a_frozen_server_does_not_hold_up_training_and_gets_every_point_once(run, server, tmp_path):
    process = begin(run, tmp_path)
    try:
        until(lambda: checks(run) >= 3, process, tmp_path)
        server.signal(signal.SIGSTOP)
        before = checks(run)
        until(lambda: checks(run) >= before + 10, process, tmp_path)
        assert not server.answers()
        assert process.wait(timeout=240) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        server.signal(signal.SIGCONT)
    assert f"in {run.folder}" in (tmp_path / "log").read_text()  # that curves wait there
    assert deliver(Path(run.folder)) > 0
    published_once(run, run_all(run).folders)


def test_a_killed_server_and_a_killed_training_leave_nothing_running_and_nothing_twice(run, server, tmp_path):
    process = begin(run, tmp_path)
    try:
        until(lambda: checks(run) >= 3 and "control" in runs_of(run), process, tmp_path)
        server.kill()
        before = checks(run)
        until(lambda: checks(run) >= before + 3, process, tmp_path)
        process.kill()
        process.wait()
    finally:
        process.kill()
        server.start()
    assert runs_of(run, "RUNNING").keys() >= {"control", run.name}
    closed = close_dead_runs(server.url, stale_s=3600)
    assert len(closed) == len(runs_of(run, "KILLED")) >= 2
    assert runs_of(run, "RUNNING") == {}
    found = run_all(run)
    assert {one.info.status for one in runs_of(run).values()} == {"FINISHED"}
    assert sorted(runs_of(run)) == ["control", "student", "teacher", run.name]
    assert "publish" in found.did

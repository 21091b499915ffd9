"""The retraining flow on a tiny world, and its parameters."""

from __future__ import annotations

import doctest
import json
import re
import shutil
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from conftest import make_run
from mlflow.exceptions import MlflowException
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.states import Scheduled
from prefect.testing.utilities import prefect_test_harness
from pydantic import ValidationError

from flows import retrain as flows
from flows.retrain import RetrainParameters, main, retrain, task_call
from recdistill.pipeline import STEPS, Step
from recdistill.problems import BadInput

ROOT = Path(__file__).resolve().parent.parent
NAMES = [step.name for step in STEPS]
LENIENT = {"floors": {"auc": 0.3}, "control_margin": -1.0, "max_ece": 1.0, "max_parameter_share": 1.0}


def write_config(log: Path, root: Path) -> Path:
    run = make_run(log, root, student={"seeds": 1}, gates=LENIENT)
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(run.model_dump(mode="json")))
    return path


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """Prefect's test server, and the folder where Prefect would keep results."""
    folder = tmp_path_factory.mktemp("storage")
    quick = {PREFECT_LOCAL_STORAGE_PATH: folder, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}  # a heart takes 1 s to stop
    with prefect_test_harness(server_startup_timeout=180), temporary_settings(quick):
        yield folder


@pytest.fixture(scope="module")
def world(storage, tiny_log, _migrated, tmp_path_factory):
    """(root, config, state) of one finished flow; tests add flow runs to it, never steps before decide."""
    root = tmp_path_factory.mktemp("flow")
    shutil.copy(_migrated, root / "mlflow.db")
    config = write_config(tiny_log, root)
    return root, config, retrain(RetrainParameters(config=str(config)), return_state=True)


def flow_run_id(state):
    return state.state_details.flow_run_id


def task_runs(state, want: int):
    """A flow run's task runs in order, once there are `want` finished ones: Prefect records them a little later."""
    only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id(state)]))
    deadline = time.monotonic() + 30
    with get_client(sync_client=True) as client:
        while True:
            found = client.read_task_runs(flow_run_filter=only)
            finished = [task for task in found if task.state is not None and task.state.is_final()]
            if len(finished) >= want or time.monotonic() > deadline:
                return sorted(found, key=lambda task: task.start_time)
            time.sleep(0.1)


def artifacts(state):
    with get_client(sync_client=True) as client:
        only = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id(state)]))
        return client.read_artifacts(artifact_filter=only)


def kept(storage: Path) -> list[Path]:
    return [path for path in storage.rglob("*") if path.is_file()]


def test_every_step_is_a_task_in_the_order_of_the_steps(world):
    tasks = task_runs(world[2], len(NAMES))
    assert [re.sub(r"-[0-9a-f]+$", "", task.name) for task in tasks] == NAMES
    assert [task.state_name for task in tasks] == ["Completed"] * len(NAMES)
    assert [task.run_count for task in tasks] == [1] * len(NAMES)
    assert [sorted(task.tags) for task in tasks] == [sorted(["recdistill", name]) for name in NAMES]


def test_the_flow_returns_its_result_as_json_and_keeps_nothing_in_result_storage(world, storage):
    root, _, state = world
    found = state.result()
    assert json.loads(json.dumps(found)) == found
    assert (found["verdict"], found["version"], found["run_dir"]) == ("PASS", 1, str(root / "run"))
    assert kept(storage) == []


def test_the_artifact_holds_models_gates_version_and_folder(world):
    root, _, state = world
    (artifact,) = artifacts(state)
    assert (artifact.key, artifact.type) == ("retrain-result", "markdown")
    auc = state.result()["shipped"]["auc"]
    assert "| metric | teacher | student | control | shipped | student - control |" in artifact.data
    assert f"{auc[0]:.4f} ({auc[1]:.4f} to {auc[2]:.4f})" in artifact.data
    assert "| auc floor | >= 0.3 |" in artifact.data
    assert "# PASS: tiny-student version 1" in artifact.data
    assert str(root / "run") in artifact.data
    assert f"[The whole report]({(root / 'run/report.html').as_uri()})" in artifact.data
    assert (root / "run/report.html").is_file()


def test_a_second_run_has_no_task_and_the_same_result(world, monkeypatch):
    _, config, first = world

    def never(step, *_):
        raise AssertionError(f"{step.name} was up to date")

    monkeypatch.setattr(flows, "task_call", never)
    state = retrain(RetrainParameters(config=str(config)), return_state=True)
    assert state.result() == first.result()
    assert len(artifacts(state)) == 1


def test_a_gate_that_fails_ends_failed_with_its_artifact_and_is_not_tried_again(world, storage):
    _, config, _ = world
    parameters = RetrainParameters(config=str(config), overrides=["gates.floors.auc=0.99"])
    state = retrain(parameters, return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "Failed")
    assert "is not promoted: auc floor: wanted >= 0.99, found 0." in state.message
    (artifact,) = artifacts(state)
    assert artifact.data.startswith("# FAIL: tiny-student version")
    assert [task.run_count for task in task_runs(state, 2)] == [1, 1]  # decide and publish; the rest is up to date
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(flow_run_id(state)).run_count == 1
    assert kept(storage) == []


def test_bad_data_ends_failed_with_every_line_before_any_task(storage, tiny_log, tmp_path):
    config = write_config(tiny_log, tmp_path)
    overrides = ["features.ids=[item_id, nowhere]", "features.history.outcomes=[neither]"]
    state = retrain(RetrainParameters(config=str(config), overrides=overrides), return_state=True)
    assert state.name == "Failed"
    assert "nowhere" in state.message
    assert "neither" in state.message
    assert "Traceback" not in state.message
    assert task_runs(state, 0) == []
    assert not (tmp_path / "run").exists()


@contextmanager
def clock(under_s: float):
    begins = time.monotonic()
    yield
    assert time.monotonic() - begins < under_s


@pytest.fixture
def call_step(storage, monkeypatch, tmp_path):
    """A function: the state of a flow that does one step of the given body."""

    def call(body):
        step = Step(name="publish", body=body)
        monkeypatch.setattr(flows, "retrained", lambda _: task_call(step, None, {}, tmp_path / "publish", "key"))
        return retrain(RetrainParameters(config="a.yaml"), return_state=True)

    return call


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (BadInput("a.yaml: wanted this, found that; mend it"), 1),
        (ZeroDivisionError(), 1),
        (OSError("disk"), 2),
        (MlflowException("store"), 2),
    ],
)
def test_only_what_a_retry_can_help_is_tried_again(call_step, storage, monkeypatch, tmp_path, error, tries):
    monkeypatch.setattr(flows, "BACKOFF_S", 0.01)
    calls = []

    def body(run, inputs, out):
        (out / "half").write_text("half")
        calls.append(out)
        if len(calls) == 1:
            raise error

    state = call_step(body)
    assert len(calls) == tries
    assert state.is_completed() == (tries == 2)
    assert [path.name for path in tmp_path.iterdir()] == (["publish"] if tries == 2 else [])
    assert tries == 2 or state.result(raise_on_failure=False) is error
    assert kept(storage) == []


def test_a_step_past_its_timeout_is_stopped_once_and_leaves_nothing(call_step, storage, monkeypatch, tmp_path):
    monkeypatch.setitem(flows.TIMEOUT_HOURS, "publish", 0.3 / 3600)
    calls = []

    def body(run, inputs, out):
        (out / "half").write_text("half")
        calls.append(out)
        time.sleep(20)

    with clock(under_s=10):
        state = call_step(body)
    assert state.is_failed()
    assert [task.state_name for task in task_runs(state, 1)] == ["TimedOut"]
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []
    assert kept(storage) == []


def test_every_step_has_a_timeout():
    assert list(flows.TIMEOUT_HOURS) == NAMES


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"confg": "a.yaml"}, "confg\n  Extra inputs are not permitted"),
        ({"config": ""}, "at least 1 character"),
        ({"overrides": ["teacher.epochs"]}, "overrides.0"),
        ({"window_days": 0}, "greater than or equal to 1"),
        ({"window_days": 2, "start": "2026-01-01"}, "wanted start or window_days, found both"),
        ({"start": "2026-01-02", "end": "2026-01-02T02:00:00+02:00"}, "wanted start before end"),
        ({"window": "2026-01-02", "window_days": 2}, "wanted window, or start, end and window_days, found both"),
        ({"again": True}, "wanted window beside full and again, found none"),
    ],
)
def test_wrong_parameters_are_refused_in_words(given, says):
    with pytest.raises(ValidationError, match=re.escape(says)):
        RetrainParameters(**{"config": "a.yaml", **given})


@pytest.mark.parametrize(
    ("given", "window"),
    [
        ({}, []),
        ({"start": "2026-01-02"}, ["data.start=2026-01-02T00:00:00+00:00"]),
        ({"end": "2026-01-02T01:00:00+02:00"}, ["data.end=2026-01-01T23:00:00+00:00"]),
        ({"window_days": 3}, ["data.start=2026-01-06T00:00:00+00:00", "data.end=2026-01-09T00:00:00+00:00"]),
        (
            {"window_days": 1, "end": "2026-01-04T12:00:00Z"},
            ["data.start=2026-01-03T12:00:00+00:00", "data.end=2026-01-04T12:00:00+00:00"],
        ),
    ],
)
def test_the_window_is_the_configs_or_as_asked(given, window):
    parameters = RetrainParameters(config="a.yaml", overrides=["seed=1"], **given)
    assert parameters.all_overrides(datetime(2026, 1, 9, 3, 30, tzinfo=UTC)) == ["seed=1", *window]


def test_the_example_holds():
    assert doctest.testmod(flows)[:2] == (0, 1)


def test_a_window_in_days_counts_from_the_scheduled_time_and_not_from_now(storage, monkeypatch):
    def loaded(config, overrides):
        raise BadInput(overrides)

    monkeypatch.setattr(flows, "load", loaded)
    parameters = {"parameters": RetrainParameters(config="a.yaml", window_days=1)}
    at = Scheduled(scheduled_time=datetime(2026, 1, 9, 3, tzinfo=UTC))
    with get_client(sync_client=True) as client:
        late = client.create_flow_run(retrain, parameters=parameters, state=at)
    state = run_flow(retrain, flow_run=late, parameters=parameters, return_type="state")
    assert state.message == "data.start=2026-01-08T00:00:00+00:00\ndata.end=2026-01-09T00:00:00+00:00"


def test_a_cell_of_the_artifact_with_a_bar_stays_one_cell():
    assert flows._table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |"


def test_exit_status_is_the_command_lines(world, capsys):
    _, config, state = world
    assert main([str(config)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == state.result()
    assert main([str(config), "gates.floors.auc=0.99"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["verdict"] == "FAIL"
    assert main([str(config), "teacher.epoch=2", "teacher.epochs"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "wanted section.field=value, found 'teacher.epochs'" in captured.err

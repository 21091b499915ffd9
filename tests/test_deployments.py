"""prefect.yaml: its deployments and their forms; slow: a flow without a server, and by a real server and worker."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import cloudpickle
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.settings import temporary_settings
from test_flows import NAMES, artifacts, kept, task_runs, write_config

from flows.retrain import RetrainParameters

ROOT = Path(__file__).resolve().parent.parent


def deployments():
    return {item["name"]: item for item in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}


def test_prefect_yaml_names_no_machine_and_every_schedule_has_a_slug():
    text = (ROOT / "prefect.yaml").read_text()
    assert re.findall(r"(?<![\w.])/\w+|[A-Z]:\\|https?://|127\.0|localhost", text) == []
    found = deployments()
    assert {"nightly", "adhoc", "range", "recipes", "hourly", "weekly", "watch"} <= set(found)
    for deployment in found.values():
        assert all(schedule["slug"] and schedule["timezone"] == "UTC" for schedule in deployment["schedules"])
        assert deployment["concurrency_limit"]["limit"] == 1
        assert deployment["work_pool"]["job_variables"]["env"]["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"
    assert [len(found[name]["schedules"]) for name in ("nightly", "adhoc")] == [1, 0]


def test_every_deployment_gives_its_flow_parameters_that_it_takes_and_a_form_that_can_be_read():
    entries = {deployment["entrypoint"]: deployment for deployment in deployments().values()}
    assert len(entries) >= 8
    for entry, deployment in entries.items():
        path, name = entry.split(":")
        flow = getattr(import_module(path.removesuffix(".py").replace("/", ".")), name)
        form = get_type_hints(flow.fn)["parameters"]
        form(**deployment["parameters"]["parameters"])
        served = cloudpickle.loads(cloudpickle.dumps(flow))  # as `serve` hands it to the process that runs it
        found = served.validate_parameters(deployment["parameters"])["parameters"]
        assert set(found.model_dump()) == set(form.model_fields)
        assert all(field.description for field in form.model_fields.values()), form
        assert flow.fn.__doc__


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Nothing of an outer Prefect; its files in `folder`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "OMP_NUM_THREADS": "1"}
    return {**clean, **quiet, "PREFECT_HOME": str(folder / "prefect"), **more}


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_uri")
def test_runs_with_no_server(tiny_log, tmp_path):
    config = write_config(tiny_log, tmp_path)
    command = [sys.executable, "-m", "flows.retrain", str(config)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["verdict"] == "PASS"
    assert "student 0: epoch 1 of 1" in done.stderr
    assert kept(tmp_path / "prefect" / "storage") == []


@pytest.fixture
def server(tmp_path):
    """A real server of its own on a free loopback port; a function that runs a prefect command against it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    settings = environment(tmp_path, PREFECT_API_URL=url, RECDISTILL_HOME=str(ROOT))
    prefect = str(Path(sys.executable).with_name("prefect"))

    def command(*words: str, cwd: Path = ROOT) -> str:
        done = subprocess.run(
            [prefect, "--no-prompt", *words], cwd=cwd, env=settings, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    with (tmp_path / "server.log").open("w") as log:
        start = [prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(start, env=settings, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
    try:
        with temporary_settings({"PREFECT_API_URL": url}):
            wait_for_health(process, tmp_path / "server.log")
            yield command
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_for_health(process, log: Path) -> None:
    deadline = time.monotonic() + 180
    with get_client(sync_client=True) as client:
        while client.api_healthcheck() is not None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)


def deployed(name: str):
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(f"retrain/{name}")


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_uri")
def test_deploy_twice_then_a_worker_runs_the_adhoc_deployment(server, tiny_log, tmp_path):
    server("work-pool", "create", "recdistill", "--type", "process")
    server("deploy", "--all")
    first = deployed("nightly")
    server("deploy", "--all")
    second = deployed("nightly")
    assert (first.id, [s.id for s in first.schedules]) == (second.id, [s.id for s in second.schedules])
    assert [(s.schedule.cron, s.schedule.timezone) for s in second.schedules] == [("0 3 * * *", "UTC")]
    assert deployed("adhoc").schedules == []
    check_form(second.parameter_openapi_schema)

    wanted = {"config": str(write_config(tiny_log, tmp_path)), "overrides": ["teacher.learning_rate=0.002"]}
    server("deployment", "run", "retrain/adhoc", "--param", f"parameters={json.dumps(wanted)}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    server("worker", "start", "--pool", "recdistill", "--run-once", cwd=elsewhere)
    with get_client(sync_client=True) as client:
        adhoc = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployed("adhoc").id]))
        (run,) = client.read_flow_runs(flow_run_filter=adhoc)
    assert run.state_name == "Completed", run.state
    run.state.state_details.flow_run_id = run.id
    names = [re.sub(r"-[0-9a-f]+$", "", task.name) for task in task_runs(run.state, len(NAMES))]
    assert names == NAMES
    (artifact,) = artifacts(run.state)
    assert artifact.key == "retrain-result"
    assert "| metric | teacher | student | control | shipped |" in artifact.data
    assert kept(tmp_path / "prefect" / "storage") == []


def check_form(schema) -> None:
    """What the form in the UI is made from."""
    form = schema["definitions"]["RetrainParameters"]
    assert form["additionalProperties"] is False
    assert form["required"] == ["config"]
    fields = form["properties"]
    assert list(fields) == list(RetrainParameters.model_fields)
    assert all(field["description"] for field in fields.values())
    assert (fields["config"]["type"], fields["overrides"]["items"]["type"]) == ("string", "string")
    assert fields["start"]["anyOf"][0] == {"format": "date-time", "type": "string"}
    assert fields["window_days"]["anyOf"][0] == {"minimum": 1, "type": "integer"}

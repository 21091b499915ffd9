"""The local stack: refusals; slow: up, a flow run killed by kill -9 and gone on with, a restart, and down."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import make_run, the_line
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import temporary_settings

from recdistill.promotion.registry import open_store
from recdistill.stack.layout import Stack
from recdistill.stack.processes import refuse_ports_in_use
from recdistill.stack.services import services

ROOT = Path(__file__).resolve().parent.parent
LENIENT = {"floors": {"auc": 0.3}, "control_margin": -1.0, "max_ece": 1.0, "max_parameter_share": 1.0}


@contextmanager
def taken_port():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def test_ports_that_others_have_are_refused_with_a_line_each(call, tmp_path):
    with taken_port() as first, taken_port() as second:
        options = ("--prefect-port", first, "--mlflow-port", second, "--database", "sqlite")
        status, _, said = call("stack", "up", "--folder", tmp_path / "stack", *options)
    assert status == 2
    lines = said.splitlines()
    the_line(lines, "prefect", str(first), "wanted a free port", "--prefect-port")
    the_line(lines, "mlflow", str(second), "wanted a free port", "--mlflow-port")
    assert not (tmp_path / "stack/stack.json").exists()
    assert not (tmp_path / "stack/pids").exists()


def test_a_port_that_was_just_closed_is_free(tmp_path):
    prefect, mlflow = free_ports(2)
    about = {"folder": tmp_path, "project": ROOT, "postgres_port": 1, "database": "sqlite"}
    refuse_ports_in_use(list(services(Stack(prefect_port=prefect, mlflow_port=mlflow, **about)).values()))


def test_a_folder_without_a_project_or_a_stack_is_refused_in_one_line(call, tmp_path, monkeypatch):
    status, _, said = call("stack", "status", "--folder", tmp_path)
    assert status == 2
    the_line(said.splitlines(), "wanted a stack", "recdistill stack up")
    monkeypatch.chdir(tmp_path)
    status, _, said = call("stack", "up", "--folder", tmp_path / "stack", "--database", "sqlite")
    assert status == 2
    the_line(said.splitlines(), "wanted a prefect.yaml")


def test_nothing_of_an_outer_server_reaches_a_stack_and_its_password_no_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_KEY", "of another")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of another")
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres/password").write_text("hidden")
    stack = Stack(folder=tmp_path, project=ROOT, prefect_port=1, mlflow_port=2, postgres_port=3, database="postgresql")
    every = services(stack)
    assert list(every) == ["postgres", "mlflow", "prefect", "worker"]
    for service in every.values():
        assert "of another" not in service.environment.values()
        assert not any("hidden" in word for word in service.command)
    assert any("hidden" in value for value in every["mlflow"].environment.values())


# --- slow: the real thing ---------------------------------------------------------------------------------------------


class Up:
    """A stack that is up, and questions to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        prefect, mlflow, postgres = map(str, free_ports(3))
        ports = ["--prefect-port", prefect, "--mlflow-port", mlflow, "--postgres-port", postgres]
        self.options, self.api, self.mlflow = ports, f"http://127.0.0.1:{prefect}/api", f"http://127.0.0.1:{mlflow}"

    def command(self, *words: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "recdistill", *words]
        environment = {**os.environ, "PREFECT_API_URL": self.api, "MLFLOW_TRACKING_URI": self.mlflow}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def up(self) -> dict:
        return json.loads(self.command("stack", "up", "--folder", str(self.folder), *self.options).splitlines()[-1])

    def down(self) -> None:
        self.command("stack", "down", "--folder", str(self.folder))

    def processes(self) -> list[psutil.Process]:
        pids = [json.loads(path.read_text())["pid"] for path in (self.folder / "pids").glob("*.json")]
        return [process for pid in pids for process in (psutil.Process(pid), *psutil.Process(pid).children(True))]


@pytest.fixture(scope="module")
def stack():
    """In a folder that PostgreSQL's own account may pass; pytest's are closed to it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    here = Up(folder / "stack")
    try:
        here.up()
        with temporary_settings({"PREFECT_API_URL": here.api}):
            yield here
    finally:
        here.down()
        shutil.rmtree(folder)


def flow_run(identity):
    with get_client(sync_client=True) as client:
        (found,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[identity])))
    return found


def until(condition, timeout_s: float = 400.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def ask_for_a_run(config: Path):
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("retrain/adhoc")
        parameters = {"parameters": {"config": str(config), "overrides": []}}
        return client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id


@pytest.mark.slow
def test_a_flow_run_killed_by_kill_9_is_closed_and_goes_on_once_to_one_version(stack, tiny_log, tmp_path):
    run = make_run(
        tiny_log,
        tmp_path,
        student={"seeds": 1, "epochs": 40, "patience": 40},
        gates=LENIENT,
        registry={"tracking_uri": stack.mlflow, "artifacts": None},
    )
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(run.model_dump(mode="json")))
    asked = ask_for_a_run(config)
    client = open_store(stack.mlflow, run.model).client

    def of_mlflow():
        experiment = client.get_experiment_by_name(run.experiment)
        return [] if experiment is None else client.search_runs([experiment.experiment_id])

    until(lambda: any(one.info.run_name == "control" for one in of_mlflow()))
    victim = flow_run(asked)
    assert victim.state.is_running()
    assert victim.labels["recdistill.host"] == socket.gethostname()
    (worker,) = [p for p in stack.processes() if "worker" in p.cmdline() and "start" in p.cmdline()]
    worker.kill()  # one that lives would tell Prefect; here its whole machine is gone
    os.kill(int(victim.labels["recdistill.pid"]), signal.SIGKILL)
    time.sleep(3)
    assert flow_run(asked).state.is_running()
    found = json.loads(stack.command("reconcile", "--quiet").splitlines()[-1])
    assert (found["prefect"], found["resumed"]) == ([str(asked)], [str(asked)])
    assert len(found["mlflow"]) >= 2
    assert {one.info.status for one in of_mlflow()} <= {"KILLED", "FINISHED"}
    stack.up()
    until(lambda: flow_run(asked).state.is_final() and flow_run(asked).run_count == 2)
    assert flow_run(asked).state.is_completed(), flow_run(asked).state
    assert {one.info.status for one in of_mlflow()} == {"FINISHED"}
    assert sorted(one.info.run_name for one in of_mlflow()) == ["control", "student", "teacher", run.name]
    assert len(client.search_model_versions(f"name='{run.model}'")) == 1


@pytest.mark.slow
def test_schedules_make_runs_and_all_survives_a_kill_of_every_process_and_a_restart(stack):
    def scheduled():
        with get_client(sync_client=True) as client:
            nightly = client.read_deployment_by_name("retrain/nightly")
            return [r for r in client.read_flow_runs(limit=200) if r.deployment_id == nightly.id and r.auto_scheduled]

    until(lambda: len(scheduled()) >= 1)
    client = open_store(stack.mlflow, "").client
    made = client.create_run("0").info.run_id
    for process in stack.processes():
        process.kill()
    until(lambda: "stopped" in stack.command("stack", "status", "--folder", str(stack.folder), status=1))
    about = stack.up()
    assert about["mlflow"] == stack.mlflow
    assert client.get_run(made).info.run_id == made
    assert scheduled()
    shown = stack.command("stack", "status", "--folder", str(stack.folder))
    assert shown.count(" running ") == (4 if about["database"] == "postgresql" else 3)
    before = [process.pid for process in stack.processes()]
    stack.up()  # what runs is left as it is
    assert set(before) <= {process.pid for process in stack.processes()}


@pytest.mark.slow
def test_pools_of_docker_and_kubernetes_are_made_from_the_templates(stack):
    for kind in ("docker", "kubernetes"):
        template = str(ROOT / f"deploy/{kind}.json")
        words = ["work-pool", "create", f"recdistill-{kind}", "--type", kind, "--base-job-template", template]
        command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
        done = subprocess.run(command, env={**os.environ, "PREFECT_API_URL": stack.api}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

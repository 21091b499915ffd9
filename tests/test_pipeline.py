"""The whole line on a tiny generated world: what runs again after a change, one row's tour, kill -9 anywhere."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY, TINY_ROWS, make_run

from recdistill import files, pipeline
from recdistill.data.synth.generate import synth
from recdistill.files import manifest, read_json
from recdistill.pipeline import STEPS, run_all
from recdistill.problems import BadInput
from recdistill.promotion.registry import open_registry
from recdistill.result import result, tables
from recdistill.trace import trace_row

NAMES = [step.name for step in STEPS]
LENIENT = {
    "floors": {"auc": 0.3},
    "control_margin": -1.0,
    "champion_margin": 1.0,
    "max_ece": 1.0,
    "max_parameter_share": 1.0,
}


@pytest.fixture(scope="module")
def world(tiny_log, _migrated, tmp_path_factory):
    """A finished run in a folder of its own, and a builder of its variants. Tests copy it before they change it."""
    root = tmp_path_factory.mktemp("whole")
    shutil.copy(_migrated, root / "mlflow.db")
    with contextlib.chdir(root):
        done = run_all(variant(tiny_log))
    return root, done


def variant(log: Path, **sections):
    """A run that writes where the process stands, so that a copied folder is the same run."""
    return make_run(log, Path("."), gates=LENIENT, **sections)


@pytest.fixture
def inside(world, monkeypatch):
    """The finished world as the current folder: only look."""
    monkeypatch.chdir(world[0])
    return world[1]


@pytest.fixture
def again(world, tmp_path, monkeypatch):
    """A copy of the finished world as the current folder, to go on in."""
    shutil.copytree(world[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def test_the_line_ends_with_a_champion_and_every_step_in_order(inside, tiny_log):
    done = inside
    assert list(done.did) == NAMES
    run = variant(tiny_log)
    found = result(run, done.folders)
    assert found["verdict"] == "PASS"
    registry = open_registry(run)
    champion = registry.champion()
    assert champion is not None
    assert int(champion.version) == found["version"] == 1
    assert champion.tags["bundle_sha256"] == read_json(done.folders["export"] / "export.json")["bundle_sha256"]
    for model in ("teacher", "student", "control", "shipped"):
        value, low, high = found[model]["auc"]
        assert low <= value <= high
    assert "NO_BASELINE" in tables(found)
    json.dumps(found, allow_nan=False)


def test_the_registered_artifact_is_the_bundle_that_was_judged(inside, tiny_log):
    done = inside
    registry = open_registry(variant(tiny_log))
    exported = read_json(done.folders["export"] / "export.json")
    with registry.download(registry.champion()) as folder:
        assert manifest(folder) == manifest(done.folders["export"] / exported["shipped"])


def test_mlflow_holds_a_parent_with_three_children_curves_and_the_data(inside, tiny_log):
    done = inside
    client = open_registry(variant(tiny_log)).client
    experiment = client.get_experiment_by_name("tiny").experiment_id
    runs = client.search_runs([experiment])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in runs if run not in parents}
    (parent,) = parents
    assert set(children) == {"teacher", "student", "control"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all(child.data.tags["mlflow.parentRunId"] == parent.info.run_id for child in children.values())
    assert parent.data.params["teacher.width"] == "8"
    report = read_json(done.folders["evaluate"] / "report.json")
    assert parent.data.metrics["student.auc"] == pytest.approx(report["models"]["student"]["auc"][0])
    curve = client.get_metric_history(children["teacher"].info.run_id, "valid_auc")
    assert len(curve) == len(read_json(done.folders["train_teacher"] / "teacher.json")["curve"])
    assert "seed_1.point.soft_bce" in children["student"].data.metrics
    fingerprint = read_json(done.folders["prepare"] / "data.json")["fingerprint"]
    (dataset,) = parent.inputs.dataset_inputs
    assert dataset.dataset.digest == fingerprint[:36]
    found = client.search_runs([experiment], f"dataset.digest = '{fingerprint[:36]}'")
    assert [run.info.run_id for run in found] == [parent.info.run_id]


def test_the_same_command_again_does_nothing(again, tiny_log):
    assert run_all(variant(tiny_log)).did == ()
    assert [event.version for event in open_registry(variant(tiny_log)).history()] == [1]


def test_another_recipe_runs_again_from_distil_on(again, tiny_log):
    recipe = {"terms": [{"use": "label.bce", "weight": 0.5}, {"use": "list.clid", "weight": 0.5}]}
    done = run_all(variant(tiny_log, recipe=recipe))
    assert list(done.did) == NAMES[NAMES.index("distil") :]
    decision = read_json(done.folders["decide"] / "decision.json")
    assert decision["baseline"]["version"] == "1"
    value, low, high = decision["champion"]["difference"]["auc"]
    assert low <= value <= high
    assert [event.version for event in open_registry(variant(tiny_log)).history()] == [1, 2]


def test_another_data_window_runs_all_again_and_faces_the_champion_with_its_own_encoder(again, tiny_log):
    done = run_all(variant(tiny_log, data={"start": "2026-01-02T00:00:00"}))
    assert list(done.did) == NAMES
    champion = read_json(done.folders["decide"] / "decision.json")["champion"]
    assert champion["version"] == 1
    assert "difference" in champion


def test_other_gates_run_again_from_decide_on(again, tiny_log):
    run = variant(tiny_log).model_copy(update={"gates": variant(tiny_log).gates.model_copy(update={"max_ece": 0.9})})
    assert run_all(run).did == ("decide", "publish")


def test_another_log_under_the_same_name_runs_all_again(again, tmp_path):
    log = tmp_path / "log"
    synth(log, TINY_ROWS, TINY.__class__(num_users=150, num_items=100, num_days=6, seed=4))
    assert list(run_all(variant(log)).did) == NAMES


def test_a_candidate_that_fails_a_gate_is_registered_and_never_champion(again, tiny_log):
    run = variant(tiny_log, student={"width": 3})
    run = run.model_copy(update={"gates": run.gates.model_copy(update={"floors": {"auc": 0.999}})})
    found = result(run, run_all(run).folders)
    registry = open_registry(run)
    assert found["verdict"] == "FAIL"
    assert found["version"] == 2
    assert registry.version(2).tags["verdict"] == "FAIL"
    assert int(registry.champion().version) == 1


def test_a_model_that_was_deleted_from_the_registry_is_registered_again(again, tiny_log):
    run = variant(tiny_log)
    registry = open_registry(run)
    registry.client.delete_registered_model(registry.model)
    assert registry.champion() is None
    assert run_all(run).did == ("publish",)
    assert int(registry.champion().version) == 1


def test_bad_data_leaves_no_step_folder_and_the_champion(again, tmp_path, tiny_log):
    log = tmp_path / "log"
    shutil.copytree(tiny_log, log)
    (log / "_manifest.json").unlink()  # which would tell before a row is read
    path = sorted(log.rglob("*.parquet"))[2]
    table = pq.read_table(path, partitioning=None)
    place = table.schema.get_field_index("clicked")
    labels = table.column("clicked").to_pylist()
    labels[5] = 2
    pq.write_table(table.set_column(place, table.schema.field("clicked"), pa.array(labels, pa.int8())), path)
    before = sorted(path.name for path in (again / "run").iterdir())
    with pytest.raises(BadInput, match="row 5: column clicked: wanted a label of 0 or 1, found 2"):
        run_all(variant(log))
    assert sorted(path.name for path in (again / "run").iterdir()) == sorted([*before, "quarantine.parquet"])
    assert int(open_registry(variant(log)).champion().version) == 1


def test_two_runs_in_one_folder_are_refused(again, tiny_log):
    from recdistill.files import only_one

    with only_one(again / "run"), pytest.raises(BadInput, match="found another one at work"):
        run_all(variant(tiny_log))


@pytest.mark.parametrize("which", [0, -1])
def test_one_row_is_the_same_at_every_stage(inside, tiny_log, which):
    tables = [pq.read_table(path, partitioning=None) for path in sorted(tiny_log.rglob("*.parquet"))]
    row_id = 0 if which == 0 else sum(table.num_rows for table in tables) - 1
    tour = trace_row(variant(tiny_log), row_id)
    raw = tables[which].to_pylist()[which]
    assert tour["raw"]["item_id"] == raw["item_id"]
    assert tour["label"] == raw["clicked"]
    assert tour["window"] == ("train" if row_id == 0 else "test")
    history = tour["raw"]["history.item_id"]
    newest_first = [i for i in tour["ids"]["history.item_id"] if i]
    assert len(newest_first) == len(history)
    assert (len(history) > 0) == (row_id != 0)
    assert abs(tour["student_logit_torch"] - tour["student_logit_bundle"]) < 1e-4
    assert -20 < tour["teacher_logit"] < 20


KILLED = """
import os, signal, sys
from pathlib import Path
from recdistill import files, pipeline
from test_pipeline import variant
step, when = sys.argv[2], sys.argv[3]
def call(s, run, inputs, final, key):
    if s.name == step and when == "body":
        body = s.body
        def dying(*args):
            body(*args)
            os.kill(os.getpid(), signal.SIGKILL)
        s = pipeline.Step(name=s.name, body=dying, reads=s.reads, sections=s.sections)
    pipeline.plain_call(s, run, inputs, final, key)
    if s.name == step:
        os.kill(os.getpid(), signal.SIGKILL)
pipeline.run_all(variant(Path(sys.argv[1])), call)
"""


def killed(log: Path, root: Path, step: str, when: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(log), step, when]
    died = subprocess.run(command, cwd=root, env=environment, capture_output=True, timeout=300, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]


def essence(root: Path, done: pipeline.Done) -> dict[str, object]:
    """What must be equal after any interruption: weights, bundles, report, versions and who was champion."""
    folders = {name: root / done.folders[name] for name in ("distil", "export", "evaluate")}
    listed = {name: manifest(folder)["files"] for name, folder in folders.items()}
    timed = listed["distil"].pop("students.json")  # holds speeds
    assert timed
    return {**listed, "report": read_json(folders["evaluate"] / "report.json")}


@pytest.mark.slow
@pytest.mark.parametrize("when", ["body", "done"])
@pytest.mark.parametrize("step", NAMES)
def test_kill_9_at_any_step_and_a_rerun_end_as_an_undisturbed_run(
    world, tiny_log, _migrated, tmp_path, monkeypatch, step, when
):
    root, undisturbed = world
    shutil.copy(_migrated, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    killed(tiny_log, tmp_path, step, when)
    run = variant(tiny_log)
    done = run_all(run)
    assert done.did == tuple(NAMES[NAMES.index(step) + (when == "done") :])
    assert not list((tmp_path / "run").glob(".unfinished-*"))
    assert essence(tmp_path, done) == essence(root, undisturbed)
    registry = open_registry(run)
    assert len(registry.client.search_model_versions(f"name='{run.model}'")) == 1
    assert [event.version for event in registry.history()] == [1]
    assert int(registry.champion().version) == 1
    assert run_all(run).did == ()


DYING = """
import os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
from recdistill import files, pipeline
from test_pipeline import variant
method, when = sys.argv[2], sys.argv[3]
real = getattr(MlflowClient, method)
def dying(self, *args, **kwargs):
    if when == "after":
        real(self, *args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(MlflowClient, method, dying)
pipeline.run_all(variant(Path(sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "method",
    [
        "create_experiment",
        "create_run",
        "log_inputs",
        "log_batch",
        "set_terminated",
        "log_artifacts",
        "create_registered_model",
        "create_model_version",
        "set_registered_model_alias",
        "set_tag",
    ],
)
def test_kill_9_at_any_call_of_publish_leaves_one_version_one_parent_and_one_champion(
    again, tiny_log, _migrated, method, when
):
    """From before the first call to MLflow to after the last, each a death; the rerun must not double anything."""
    shutil.copy(_migrated, again / "mlflow.db")
    (again / "run/promotions.jsonl").unlink(missing_ok=True)  # it remembers the log of a store that is gone
    shutil.rmtree(next((again / "run").glob("publish-*")))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DYING, str(tiny_log), method, when]
    died = subprocess.run(command, cwd=again, env=environment, capture_output=True, timeout=120, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    run = variant(tiny_log)
    assert run_all(run).did == ("publish",)
    registry = open_registry(run)
    (version,) = registry.client.search_model_versions(f"name='{registry.model}'")
    assert int(registry.champion().version) == int(version.version) == 1
    assert [event.version for event in registry.history()] == [1]
    runs = registry.client.search_runs([registry.client.get_experiment_by_name("tiny").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["control", "student", "teacher", "tiny"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for child in runs:
        points = registry.client.get_metric_history(child.info.run_id, "test.auc")
        assert len(points) == ("mlflow.parentRunId" in child.data.tags)
    with registry.download(version) as folder:
        assert not files.damage(folder)

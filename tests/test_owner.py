"""Whose a run is, and whether its process lives: told by number and birth, and by silence from elsewhere."""

import os
import subprocess
import sys

import psutil
import pytest

from recdistill.promotion.registry import open_store
from recdistill.tracking.early import Session, open_early
from recdistill.tracking.owner import BORN, HOST, PID, SEEN, is_dead, living, this_process
from recdistill.tracking.reconcile import CLOSED, close_dead_runs

NEVER = {"last_sign": 0.0, "now": 1e9, "stale_s": 1.0}


@pytest.fixture
def ended():
    """The tags of a process that was killed."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    born = psutil.Process(process.pid).create_time()
    process.kill()
    process.wait()
    return {**this_process(), PID: str(process.pid), BORN: repr(born)}


def test_a_process_here_is_dead_when_it_has_ended_however_long_it_was_silent(ended):
    assert not is_dead(this_process(), **NEVER)
    assert is_dead(ended, **NEVER | {"now": 0.0})


def test_another_process_with_the_same_number_deceives_nobody():
    assert is_dead({**this_process(), BORN: "1000.0"}, **NEVER)
    assert living(os.getpid(), float(this_process()[BORN])) is not None


def test_elsewhere_only_silence_tells():
    elsewhere = {**this_process(), HOST: "another"}
    assert is_dead(elsewhere, **NEVER)
    assert not is_dead(elsewhere, last_sign=9.5, now=10.0, stale_s=1.0)


def test_only_runs_of_the_dead_are_closed_and_the_same_run_goes_on_in_its_own(mlflow_uri, ended):
    registry = open_store(mlflow_uri, "")
    about = {"uri": mlflow_uri, "experiment": "tiny", "name": "tiny"}
    dead = open_early(registry, Session(live="dead", owner=ended, **about), None, None)
    alive = open_early(registry, Session(live="alive", owner=this_process(), **about), None, None)
    distant = Session(live="far", owner={**ended, HOST: "another", SEEN: "1.0"}, **about)
    far = open_early(registry, distant, None, None)
    foreign = registry.client.create_run(alive.info.experiment_id)

    assert set(close_dead_runs(mlflow_uri, stale_s=60)) == {dead.info.run_id, far.info.run_id}
    status = {run.info.run_id: run.info.status for run in registry.client.search_runs([alive.info.experiment_id])}
    assert status == {
        dead.info.run_id: "KILLED",
        far.info.run_id: "KILLED",
        alive.info.run_id: "RUNNING",
        foreign.info.run_id: "RUNNING",
    }
    assert "was gone" in registry.client.get_run(dead.info.run_id).data.tags[CLOSED]
    assert close_dead_runs(mlflow_uri, stale_s=60) == []

    again = open_early(registry, Session(live="dead", owner=this_process(), **about), None, None)
    assert again.info.run_id == dead.info.run_id
    assert registry.client.get_run(again.info.run_id).info.status == "RUNNING"

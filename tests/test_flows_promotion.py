"""The flows that promote and roll back, against Prefect's own server: a form that somebody fills in, and refusals."""

import asyncio
import shutil
import threading
import time

import pytest
import yaml
from conftest import make_run
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.testing.utilities import prefect_test_harness
from promotion_world import register

from flows.promote import Approval, PromoteParameters, promote
from flows.rollback import RollbackParameters, rollback
from recdistill.promotion.registry import open_registry

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """Prefect's test server, and the folder where Prefect would keep results."""
    folder = tmp_path_factory.mktemp("storage")
    quick = {PREFECT_LOCAL_STORAGE_PATH: folder, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with prefect_test_harness(server_startup_timeout=180), temporary_settings(quick):
        yield folder


@pytest.fixture(scope="module")
def world(storage, _migrated, tmp_path_factory):
    """(config, registry) where version 1 is champion, 2 and 3 passed against it and 4 failed."""
    root = tmp_path_factory.mktemp("promote")
    shutil.copy(_migrated, root / "mlflow.db")
    run = make_run(root / "log", root)
    config = root / "config.yaml"
    config.write_text(yaml.safe_dump(run.model_dump(mode="json")))
    registry = open_registry(run)
    registry.promote(register(registry, "aa"), why="first", key="first")
    for sha, verdict in (("bb", "PASS"), ("cc", "PASS"), ("dd", "FAIL")):
        register(registry, sha, verdict, baseline="1")
    return str(config), registry


def fill_in(form):
    """Resume the flow run that waits, as the UI does with the form."""

    async def look():
        waiting = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
        async with get_client() as client:
            deadline = time.monotonic() + 120
            while not (found := await client.read_flow_runs(flow_run_filter=waiting)):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)
            for run in found:
                await client.resume_flow_run(run.id, run_input=form)

    person = threading.Thread(target=lambda: asyncio.run(look()))
    person.start()
    return person


def test_the_form_decides_and_the_history_says_who(world):
    config, registry = world
    no = fill_in({"approve": False, "who": "ann", "why": "the tail is worse"})
    state = promote(PromoteParameters(config=config, version=2), return_state=True)
    no.join()
    assert state.is_failed()
    assert "wanted approval, found a no from ann: the tail is worse" in state.message
    assert int(registry.champion().version) == 1

    yes = fill_in({"approve": True, "who": "bob", "why": "looked at the slices"})
    found = promote(PromoteParameters(config=config, version=2))
    yes.join()
    assert found == {"model": "tiny-student", "version": 2, "stage": "champion", "who": "bob"}
    last = registry.history()[-1]
    assert (last.version, last.replaced, last.who, last.why) == (2, 1, "bob", "looked at the slices")

    state = promote(PromoteParameters(config=config, version=3, approval=False), return_state=True)
    assert state.is_failed()
    assert "wanted version 1, found version 2, by bob" in state.message, "3 was judged against 1"
    state = promote(PromoteParameters(config=config, version=4, approval=False), return_state=True)
    assert "wanted verdict PASS, found FAIL" in state.message

    back = rollback(RollbackParameters(config=config, why="bad day", who="ann"))
    assert back == {"model": "tiny-student", "version": 1, "replaced": 2, "mlflow_knows": True}
    state = rollback(RollbackParameters(config=config, why="worse day"), return_state=True)
    assert "found version 1 only" in state.message


def test_prefect_keeps_no_pickle(world, storage):
    assert [path for path in storage.rglob("*") if path.is_file()] == []


def test_the_form_is_typed():
    fields = Approval.model_json_schema()
    assert fields["properties"]["approve"]["type"] == "boolean"
    assert set(fields["required"]) == {"approve", "who"}

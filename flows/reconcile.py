"""Runs that a kill -9 left behind: closed in Prefect and in MLflow, their locks freed, and started again.

Prefect keeps a flow run Running for ever when its process dies, and its deployment's concurrency slot with it.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.states import Crashed, Failed, Scheduled
from pydantic import BaseModel, ConfigDict, Field

from flows.lines import show_own_lines
from recdistill.config.run import Registry
from recdistill.problems import BadInput
from recdistill.tracking.deliver import deliver_all
from recdistill.tracking.owner import HOST, is_dead, this_process
from recdistill.tracking.reconcile import close_dead_runs
from recdistill.train.progress import logger

MAX_STARTS = 3
"""A run that died so often is not started again: it would take its machine down once more."""
_AT_WORK = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
_PAGE = 200


class ReconcileParameters(BaseModel):
    """How runs that died are found, and what becomes of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stale_minutes: float = Field(
        default=10.0, gt=0, description="A run on another machine that has been silent for so long is dead"
    )
    resume: bool = Field(default=True, description=f"Start runs of deployments again, each at most {MAX_STARTS} times")


def announce(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """The on_running hook of every flow here: which process does the run, so that its death can be told."""
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(flow_run.id, {**this_process()})


def reconciled(*, stale_s: float, resume: bool) -> dict[str, Any]:
    """Close what died, and, where resume is set, schedule runs of deployments again: they go on after their last step.

    Returns ids: {"prefect": closed flow runs, "resumed": those of them that start again, "mlflow": closed runs}, and
    "delivered", how many entries of curves under runs/ had waited for the tracking server. stale_s: how long a run may
    be silent whose process is on another machine. BadInput where the tracking server is away; Prefect's runs are closed
    by then.
    """
    dead = close_dead_flow_runs(stale_s)
    again = [run for run in dead if resume and run.deployment_id is not None and run.run_count < MAX_STARTS]
    with get_client(sync_client=True) as client:
        for run in again:
            state: State[Any] = Scheduled(message="goes on where its process died")
            client.set_flow_run_state(run.id, state, force=True)
            logger.info("reconcile: flow run %s starts again", run.name)
    delivered = deliver_all(Path("runs"))
    return {
        "prefect": [str(run.id) for run in dead],
        "resumed": [str(run.id) for run in again],
        "mlflow": close_dead_runs(Registry().tracking_uri, stale_s=stale_s),
        "delivered": delivered,
    }


def close_dead_flow_runs(stale_s: float) -> list[FlowRun]:
    """End as Crashed the flow runs, and their tasks, that say they work but whose process is gone.

    Their labels are emptied: they would make the next start of the same run look dead until it announces itself.
    """
    with get_client(sync_client=True) as client:
        dead = [run for run in _at_work(client) if _is_dead(client, run, stale_s)]
        for run in dead:
            for task in client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))):
                if task.state is not None and not task.state.is_final():
                    client.set_task_run_state(task.id, Crashed(message="its process was gone"), force=True)
            client.update_flow_run_labels(run.id, dict.fromkeys(this_process(), ""))
            client.set_flow_run_state(run.id, Crashed(message="its process was gone"), force=True)
            logger.info("reconcile: flow run %s closed", run.name)
    return dead


def _at_work(client: SyncPrefectClient) -> Iterator[FlowRun]:
    working = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_AT_WORK)))
    offset = 0
    while page := client.read_flow_runs(flow_run_filter=working, limit=_PAGE, offset=offset):
        yield from page
        offset += len(page)


def _is_dead(client: SyncPrefectClient, run: FlowRun, stale_s: float) -> bool:
    """One that has not announced itself is only dead after its silence: it may be about to."""
    last_sign = run.state.timestamp.timestamp() if run.state is not None else 0.0
    labels = {name: str(value) for name, value in (run.labels or {}).items()}
    if labels.get(HOST):
        last_sign = max(last_sign, _last_beat(client, run))
    return is_dead(labels, last_sign=last_sign, now=time.time(), stale_s=stale_s)


def _last_beat(client: SyncPrefectClient, run: FlowRun) -> float:
    """When Prefect last heard the run's heart, in seconds since 1970; 0 for never."""
    name = EventNameFilter(name=["prefect.flow-run.heartbeat"])
    whose = EventResourceFilter(id=[f"prefect.flow-run.{run.id}"])
    found = client.read_events(filter=EventFilter(event=name, resource=whose), limit=1).events
    return found[0].occurred.timestamp() if found else 0.0


@flow(name="reconcile", retries=0, persist_result=False, on_running=[announce])
def reconcile(parameters: ReconcileParameters) -> dict[str, Any] | State[Any]:
    """Runs whose process is gone, closed and started again; what was done."""
    show_own_lines()
    try:
        return reconciled(stale_s=parameters.stale_minutes * 60, resume=parameters.resume)
    except BadInput as error:
        return Failed(message=str(error), data=error)

"""The monitoring flow: drift, quality and the scorer's health of a promoted model, an event where somebody is to know.

python -m flows.monitor alert http://HOST/hook makes the notification and the automation that listen for the event.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import State, flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Failed
from pydantic import BaseModel, ConfigDict, Field

from flows.lines import show_own_lines
from flows.reconcile import announce
from flows.retrain import Override
from recdistill.config.load import load
from recdistill.config.run import Run
from recdistill.monitor.drifted import watch_drift
from recdistill.monitor.finding import Finding, keep, of_drift, of_health, of_quality
from recdistill.monitor.health import watch_health
from recdistill.monitor.quality import watch_quality
from recdistill.problems import BadInput, problem

EVENT = "recdistill.monitor.alarm"
ARTIFACT = "monitor"
NAME = "recdistill-alarm"  # of the block and of the automation


class MonitorParameters(BaseModel):
    """What one look is at; the form in the Prefect UI is made from this."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str = Field(min_length=1, description="A YAML file, relative to the project's folder: configs/demo.yaml")
    overrides: list[Override] = Field(default=[], description="section.field=value, as in monitor.max_psi=0.5")
    drift_days: int | None = Field(
        default=None, ge=1, description="Drift of so many days up to the UTC midnight before the scheduled time"
    )
    scored: str | None = Field(default=None, description="What the server logged, or score-file wrote, with labels")
    labels: str | None = Field(default=None, description="Parquet of the labels that came")
    server: str | None = Field(default=None, description="http://HOST:PORT of recdistill serve")
    textfile: str | None = Field(default=None, description="A folder for .prom files, as node exporter collects them")


@flow(name="monitor", retries=0, persist_result=False, on_running=[announce])
def monitor(parameters: MonitorParameters) -> dict[str, Any] | State[Any]:
    """Look at whatever is asked for: kind -> its alarms. Failed for bad config or data; an alarm is no failure."""
    try:
        return looked(parameters, runtime.flow_run.scheduled_start_time)
    except Exception as error:  # returned: what a flow raises, Prefect pickles, whatever persist_result says
        if not isinstance(error, BadInput):
            get_run_logger().exception("not foreseen")
        return Failed(message=f"{error}", data=error)


def looked(parameters: MonitorParameters, scheduled: datetime) -> dict[str, list[str]]:
    """Each look as a task; then the artifact, and one event for all alarms."""
    show_own_lines()
    run = load(parameters.config, list(parameters.overrides))
    findings = [_task(kind, look) for kind, look in looks(run, parameters, scheduled).items()]
    for finding in findings:
        keep(run, finding, None if parameters.textfile is None else Path(parameters.textfile))
    create_markdown_artifact(markdown(run, findings), key=ARTIFACT, description=run.model)
    alarms = {finding.kind: finding.alarms for finding in findings}
    tell(run, [line for lines in alarms.values() for line in lines])
    return alarms


def looks(run: Run, parameters: MonitorParameters, scheduled: datetime) -> dict[str, Callable[[], Finding]]:
    """What is asked for, by kind. BadInput where that is nothing, or labels lack what they belong to."""
    found: dict[str, Callable[[], Finding]] = {}
    days, scored, labels, server = parameters.drift_days, parameters.scored, parameters.labels, parameters.server
    if days is not None:
        end = scheduled.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        found["drift"] = lambda: of_drift(watch_drift(run, end - timedelta(days=days), end))
    if scored is not None and labels is not None:
        found["quality"] = lambda: of_quality(run, watch_quality(run, Path(scored), Path(labels), None))
    if server is not None:
        token = os.environ.get("RECDISTILL_TOKEN")
        found["health"] = lambda: of_health(watch_health(run, server, scheduled, token))
    if not found or (scored is None) != (labels is None):
        wanted, remedy = "drift_days, scored with labels, or server", "give one or more"
        raise BadInput(problem("monitor", wanted=wanted, found="none, or one without the other", remedy=remedy))
    return found


def _task(kind: str, look: Callable[[], Finding]) -> Finding:
    """A look as a task, which takes and returns nothing that Prefect could keep."""
    found: list[Finding] = []

    @task(name=kind, tags=["recdistill", "monitor"], cache_policy=NO_CACHE, persist_result=False)
    def work() -> None:
        found.append(look())

    work()
    return found[0]


def tell(run: Run, alarms: Sequence[str]) -> None:
    """One event for all alarms of a look, which an automation may hang on; none without."""
    for line in alarms:
        get_run_logger().warning(line)
    if alarms:
        resource = {"prefect.resource.id": f"recdistill.model.{run.model}", "prefect.resource.name": run.model}
        emit_event(EVENT, resource=resource, payload={"alarms": list(alarms), "text": "\n".join(alarms)})


def markdown(run: Run, findings: Sequence[Finding]) -> str:
    """All tables, and the alarms above them."""
    alarms = [line for finding in findings for line in finding.alarms]
    parts = [f"# {run.model}: {len(alarms)} alarms", *(f"- {line}" for line in alarms)]
    for finding in findings:
        parts += [f"## {finding.kind}", "```\n" + "\n".join(finding.lines) + "\n```"]
    return "\n\n".join(parts)


def alert(url: str, model: str | None = None) -> str:
    """Make, or make again, the notification block and the automation that sends each alarm to a webhook: its id.

    The webhook gets {"title": .., "text": ..}, which chat services take. model: only its alarms; None: all models'.
    """
    said = {"title": "{{subject}}", "text": "{{body}}"}
    block = CustomWebhookNotificationBlock(name=NAME, url=url, json_data=said, headers=None, cookies=None)
    block_id = cast(UUID, block.save(NAME, overwrite=True))
    resource = f"recdistill.model.{model or '*'}"
    automation = AutomationCore(
        name=NAME,
        description="Sends the alarms of the monitor flow to the webhook of the block of the same name",
        trigger=EventTrigger(
            expect={EVENT},
            match={"prefect.resource.id": resource},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            SendNotification(
                block_document_id=block_id,
                subject="{{ event.resource.name }}: alarm",
                body="{{ event.payload.text }}",
            )
        ],
    )
    with get_client(sync_client=True) as client:
        for old in client.read_automations_by_name(NAME):
            client.delete_automation(old.id)
        return str(client.create_automation(automation))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 where the Prefect server says no."""
    parser = argparse.ArgumentParser(prog="python -m flows.monitor", description="Alarms of the monitor flow")
    commands = parser.add_subparsers(required=True)
    made = commands.add_parser("alert", help="send alarms to a webhook, through the server of PREFECT_API_URL")
    made.add_argument("url", help="where a POST of {title, text} goes")
    made.add_argument("--model", help="only this registered model's")
    asked = parser.parse_args(arguments)
    try:
        print(alert(asked.url, asked.model))
    except PrefectHTTPStatusError as error:
        remedy = "mend PREFECT_API_URL, or the server"
        found = (str(error).splitlines() or ["an error"])[0][:200]
        print(problem("automation", wanted="it made", found=found, remedy=remedy), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

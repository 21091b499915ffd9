"""The retraining flow: run_all with each step as a Prefect task; python -m flows.retrain configs/demo.yaml

The order, the keys and the skipping stay in recdistill.pipeline: a step that is up to date is not called, and so is no
task. Prefect neither caches nor keeps results here; what a step made is in its folder.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from prefect import State, Task, flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import exponential_backoff
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from flows.lines import show_own_lines
from flows.reconcile import announce
from flows.windows import WindowsFailed, retrained_windows, windows_status
from recdistill.config.load import load
from recdistill.config.run import Run
from recdistill.config.sections import utc
from recdistill.metrics.bootstrap import cell
from recdistill.metrics.measure import HIGHER_IS_BETTER
from recdistill.pipeline import Inputs, Step, plain_call, run_all
from recdistill.problems import BadInput
from recdistill.promotion.registry import may_answer_later
from recdistill.report.write import report_link
from recdistill.result import MODELS, result, tables

ARTIFACT = "retrain-result"
TIMEOUT_HOURS = {
    "prepare": 6.0,
    "train_teacher": 48.0,
    "score": 12.0,
    "distil": 48.0,
    "export": 1.0,
    "evaluate": 6.0,
    "decide": 6.0,
    "publish": 1.0,
}
"""Generous: they end a step that hangs. In the main thread, where `python -m` and workers run it, a step is interrupted
between two Python instructions and leaves nothing; in another thread Prefect can only interrupt it less surely."""
RETRIES = 2
BACKOFF_S = 15.0
"""Before the first retry, on average; then twice as long."""

Override = Annotated[str, Field(pattern=r"^[^=\s]+=")]


class RetrainParameters(BaseModel):
    """What one retraining is asked to do; the form in the Prefect UI is made from this."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str = Field(min_length=1, description="A YAML file, relative to the project's folder: configs/demo.yaml")
    overrides: list[Override] = Field(default=[], description="section.field=value, as in teacher.epochs=2")
    start: datetime | None = Field(
        default=None, description="Rows from this instant on (no zone: UTC); empty takes the config's"
    )
    end: datetime | None = Field(
        default=None, description="Rows before this instant (no zone: UTC); empty takes the config's"
    )
    window: datetime | None = Field(
        default=None,
        description="With `windows` in the config: the window that ends at this instant (no zone: UTC), whatever is "
        "due; empty retrains every window that is due and not done yet, oldest first",
    )
    full: bool = Field(default=False, description="Train that window from fresh weights, whatever its turn")
    again: bool = Field(default=False, description="Do that window anew if it is done, on what the log holds now")
    window_days: int | None = Field(
        default=None,
        ge=1,
        description="Take this many days, up to `end` or else to the UTC midnight before the scheduled time, which a "
        "late or repeated run keeps; empty takes start and end, or the config's",
    )

    @field_validator("start", "end", "window")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        return utc(value)

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        if self.start is not None and self.window_days is not None:
            raise ValueError("wanted start or window_days, found both; leave one empty")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"wanted start before end, found {self.start} and {self.end}")
        if self.window is not None and (self.start or self.end or self.window_days):
            raise ValueError("wanted window, or start, end and window_days, found both; leave one empty")
        if (self.full or self.again) and self.window is None:
            raise ValueError("wanted window beside full and again, found none; say which")
        return self

    def all_overrides(self, scheduled: datetime) -> list[str]:
        """The overrides, and after them, so that it wins, the window.

        >>> RetrainParameters(config="a.yaml", window_days=7).all_overrides(datetime(2026, 1, 9, 3, tzinfo=UTC))
        ['data.start=2026-01-02T00:00:00+00:00', 'data.end=2026-01-09T00:00:00+00:00']
        """
        start, end = self.start, self.end
        if self.window_days is not None:
            end = end or scheduled.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            start = end - timedelta(days=self.window_days)
        window = {"data.start": start, "data.end": end}
        return [*self.overrides, *(f"{name}={at.isoformat()}" for name, at in window.items() if at is not None)]


class GatesFailed(RuntimeError):
    """The candidate may not become champion. found: the whole result."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found
        failed = [gate for gate in found["gates"] if gate["verdict"] == "FAIL"]
        why = "; ".join(f"{gate['name']}: wanted {gate['wanted']}, found {gate['found']}" for gate in failed)
        super().__init__(f"{found['model']} version {found['version']} is not promoted: {why} ({found['run_dir']})")


@flow(name="retrain", retries=0, persist_result=False, on_running=[announce])
def retrain(parameters: RetrainParameters) -> dict[str, Any] | State[Any]:
    """From the log to a promoted student; its result. Failed where a gate says no, or config or data are wrong."""
    try:
        return retrained(parameters)
    except Exception as error:  # returned: what a flow raises, Prefect pickles, whatever persist_result says
        if isinstance(error, BadInput | GatesFailed | WindowsFailed):
            return Failed(message=str(error), data=error)
        get_run_logger().exception("not foreseen")
        return Failed(message=f"{type(error).__name__}: {error}", data=error)


def retrained(parameters: RetrainParameters) -> dict[str, Any]:
    """The work of the flow: its result, after the artifact that shows it; GatesFailed where a gate says no."""
    show_own_lines()
    run = load(parameters.config, parameters.all_overrides(runtime.flow_run.scheduled_start_time))
    if run.windows is not None:
        return retrained_windows(run, parameters.window, task_call, full=parameters.full, again=parameters.again)
    window = f"rows from {run.data.start or 'the first'} to {run.data.end or 'the last'}"
    get_run_logger().info("%s: %s; files in %s", run.name, window, run.folder)
    done = run_all(run, call=task_call)
    found = result(run, done.folders)
    text = markdown(found, report_link(run, done.folders))
    create_markdown_artifact(text, key=ARTIFACT, description=f"{found['model']}: {found['verdict']}")
    if found["verdict"] != "PASS":
        raise GatesFailed(found)
    return found


def task_call(step: Step, run: Run, inputs: Inputs, final: Path, key: str) -> None:
    """plain_call as a task named after the step. It takes and returns nothing that Prefect could keep."""

    @task(
        name=step.name,
        tags=["recdistill", step.name],
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(BACKOFF_S),
        retry_jitter_factor=0.5,
        retry_condition_fn=may_pass,
        timeout_seconds=TIMEOUT_HOURS[step.name] * 3600,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def work() -> None:
        plain_call(step, run, inputs, final, key)

    work()


def may_pass(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether the same step may do better a moment later: disk, network and registry may, input and code do not."""
    return may_answer_later(state.data) and not isinstance(state.data, TaskRunTimeoutError)


def markdown(found: Mapping[str, Any], report: str) -> str:
    """The result as an artifact: models, gates, and where all of it is. report: the address of the run's page."""
    metrics = [name for name in HIGHER_IS_BETTER if name in found["teacher"]]
    models = [
        [
            f"{name} {'up' if HIGHER_IS_BETTER[name] else 'down'}",
            *(cell(found[model][name]) for model in MODELS),
            cell(found["gain"][name], signed=True),
        ]
        for name in metrics
    ]
    gates = [[gate["name"], gate["wanted"], gate["found"], gate["verdict"]] for gate in found["gates"]]
    return "\n\n".join(
        [
            f"# {found['verdict']}: {found['model']} version {found['version']}",
            f"Test window, 95% intervals over users and seeds. Recovery: {cell(found['recovery'])}.",
            _table(["metric", *MODELS, "student - control"], models),
            _table(["gate", "wanted", "found", "verdict"], gates),
            f"[The whole report]({report}). Files: `{found['run_dir']}`",
        ]
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status as the command line's: 0 done, 1 a gate said no, 2 bad config or data."""
    parser = argparse.ArgumentParser(prog="python -m flows.retrain", description=str(retrain.description))
    parser.add_argument("config", help="a YAML file, such as configs/demo.yaml")
    parser.add_argument("overrides", nargs="*", help="section.field=value")
    parser.add_argument("--window", type=_instant, help="only the window that ends then (UTC)")
    parser.add_argument("--full", action="store_true", help="train that window from fresh weights")
    parser.add_argument("--again", action="store_true", help="do that window anew if it is done")
    asked = parser.parse_args(arguments)
    if (asked.full or asked.again) and asked.window is None:
        parser.error("wanted --window beside --full and --again")
    try:  # unchecked parameters: load finds the same faults and says them as the command line does
        found = retrain(RetrainParameters.model_construct(**vars(asked)))
    except (GatesFailed, WindowsFailed) as failure:
        found = failure.found
    except BadInput as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return 2
    assert isinstance(found, dict)
    if "windows" in found:
        print(json.dumps(found))
        return windows_status(found)
    print(tables(found), json.dumps(found), sep="\n")
    return 0 if found["verdict"] == "PASS" else 1


def _instant(text: str) -> datetime | None:
    return utc(datetime.fromisoformat(text))


if __name__ == "__main__":
    sys.exit(main())

"""A range of windows retrained, a few at a time; python -m flows.backfill configs/drill.yaml --parallel 2

Each window is a process of its own, `recdistill retrain --window`, and so claimed, resumed and recorded as any other.
"""

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from prefect import State, Task, flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.states import Failed
from pydantic import BaseModel, ConfigDict, Field, field_validator

from flows.lines import show_own_lines
from flows.reconcile import announce
from recdistill.config.load import load
from recdistill.config.sections import utc
from recdistill.problems import BadInput
from recdistill.windows.calendar import Window
from recdistill.windows.ledger import open_ledger
from recdistill.windows.retrain import accounts

ARTIFACT = "backfill-windows"
Override = Annotated[str, Field(pattern=r"^[^=\s]+=")]


class BackfillParameters(BaseModel):
    """Which windows are brought up to date; the form in the Prefect UI is made from this."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str = Field(min_length=1, description="A YAML file with `windows`, relative to the project's folder")
    overrides: list[Override] = Field(default=[], description="section.field=value, as in teacher.epochs=2")
    first: datetime | None = Field(default=None, description="Windows that end at this instant (no zone: UTC) or later")
    last: datetime | None = Field(default=None, description="Windows that end at this instant (no zone: UTC) or before")
    parallel: int = Field(default=2, ge=1, le=16, description="Windows at work at once, at most")

    _utc = field_validator("first", "last")(utc)


@flow(name="backfill", retries=0, persist_result=False, on_running=[announce])
def backfill(parameters: BackfillParameters) -> dict[str, Any] | State[Any]:
    """Every window of a range that these settings have no record of; Failed where one did not end well."""
    show_own_lines()
    try:
        ended = _filled(parameters)
    except BadInput as error:
        return Failed(message=str(error), data=error)
    found = {"windows": ended}
    create_table_artifact([{"window": name, "status": code} for name, code in ended.items()], key=ARTIFACT)
    if any(ended.values()):
        wrong = ", ".join(f"{name} (status {code})" for name, code in ended.items() if code)
        return Failed(message=f"windows that did not end well: {wrong}; `recdistill windows` says why", data=found)
    return found


def chains(windows: Sequence[Window], full_every: int) -> list[list[Window]]:
    """Stretches that begin with a full training: within one, each goes on from the one before; all else is apart."""
    return [list(windows[start : start + full_every]) for start in range(0, len(windows), full_every)]


def _filled(parameters: BackfillParameters) -> dict[str, int]:
    """Name of a window -> its exit status, oldest first."""
    run = load(parameters.config, parameters.overrides)
    ledger = open_ledger(run)
    wanted = [
        account.window
        for account in accounts(run)
        if ledger.of(account.window) is None
        and account.standing == "due"
        and (parameters.first is None or parameters.first <= account.window.end)
        and (parameters.last is None or account.window.end <= parameters.last)
    ]
    assert run.windows is not None
    work = _task(parameters)
    futures: dict[str, PrefectFuture[int]] = {}
    for chain in chains(wanted, run.windows.full_every):
        before: PrefectFuture[int] | None = None
        for window in chain:
            given = ["--full"] if before is None else []
            waits = [] if before is None else [before]
            before = work.submit(window.name, given, wait_for=waits, return_state=False)
            futures[window.name] = before
    return {name: future.result() for name, future in futures.items()}


def _task(parameters: BackfillParameters) -> Task[[str, Sequence[str]], int]:
    """A task that retrains one window, of which no more than `parallel` are at work at once."""
    room = threading.Semaphore(parameters.parallel)
    command = [sys.executable, "-m", "recdistill", "retrain", parameters.config, *parameters.overrides]

    @task(name="window", tags=["recdistill"], cache_policy=NO_CACHE, persist_result=False)
    def window(name: str, given: Sequence[str]) -> int:
        with room:
            asked = [*command, "--quiet", "--window", name, *given]
            return subprocess.run(asked, stdout=subprocess.DEVNULL, check=False).returncode

    return window


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 a window did not end well, 2 bad config."""
    parser = argparse.ArgumentParser(prog="python -m flows.backfill", description=str(backfill.description))
    parser.add_argument("config", help="a YAML file with windows")
    parser.add_argument("overrides", nargs="*", help="section.field=value")
    for name, what in (("first", "windows that end then or later"), ("last", "windows that end then or before")):
        parser.add_argument(f"--{name}", type=datetime.fromisoformat, help=what)
    parser.add_argument("--parallel", type=int, default=2, help="windows at work at once")
    parameters = BackfillParameters(**vars(parser.parse_args(arguments)))
    state: State[Any] = backfill(parameters, return_state=True)
    found = state.result(raise_on_failure=False)
    if isinstance(found, BadInput):
        print(*found.problems, sep="\n", file=sys.stderr)
        return 2
    print(json.dumps(found))
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())

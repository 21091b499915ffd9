"""A week of daily retraining in minutes, with all that goes wrong in a week; exit status 1 if anything is off.

    make drill                                   # on a generated log
    make drill CONFIG=configs/drill-globo.yaml   # on globo, where ../shared/data has it

A real Prefect server and a process that serves the retrain flow on a schedule of seconds; a day passes when its data
arrive. Day 2 fires twice, beside a run by hand. On day 3 the schedule is down. Day 5 is poisoned. Day 6 comes after
day 7, in which the process is killed in the middle of a step.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drill_log import GLOBO, Days, globo_days, synth_days
from rich.console import Console
from rich.table import Table

from recdistill.config.load import load
from recdistill.config.run import Run
from recdistill.files import read_json, write_json
from recdistill.problems import BadInput, problem
from recdistill.promotion.registry import open_registry
from recdistill.stack.layout import Stack
from recdistill.stack.processes import Service
from recdistill.stack.services import services
from recdistill.windows.claims import owner_of
from recdistill.windows.ledger import Record, open_ledger
from recdistill.windows.retrain import Account, accounts

EVERY_S = 30
"""Between firings of the schedule."""
FOLDER = Path("runs/drill")
_PATIENCE_S = 900.0
_HAPPENED = ("", "fired three times", "schedule was down", "caught up", "poisoned", "came late", "killed -9")


@dataclass(kw_only=True)
class Drill:
    """checks: what was wanted -> what was found, and whether that is it."""

    run: Run
    config: Path
    days: Days
    stack: Stack
    deployment: str = ""
    checks: list[tuple[str, str, bool]] = field(default_factory=list)

    def check(self, wanted: str, found: object, fine: bool) -> None:
        self.checks.append((wanted, str(found), fine))
        say(f"{'ok' if fine else 'OFF'}: {wanted}: {found}")

    def account(self, day: int) -> Account | None:
        """Of the window that ends with a day, from 1; None before the log reaches it."""
        known = accounts(self.run)
        return known[day - 1] if len(known) >= day else None

    def record(self, day: int) -> Record:
        """Waits for what becomes of a day's window."""
        until(lambda: self._record(day) is not None, f"a record of day {day}")
        found = self._record(day)
        assert found is not None
        return found

    def _record(self, day: int) -> Record | None:
        account = self.account(day)
        return None if account is None else account.record


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def until(done: Callable[[], bool], what: str, every_s: float = 0.3) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not in {_PATIENCE_S:g} s; see {FOLDER}/logs")
        time.sleep(every_s)


def week(drill: Drill) -> None:
    say("day 1: a whole window at once")
    drill.days.deliver(0)
    drill.record(1)
    fired_twice(drill)
    down(drill)
    say("day 5: poisoned")
    drill.days.deliver(4, poisoned=True)
    refused = drill.record(5)
    drill.check("the poisoned day is refused by its contract", "; ".join(refused.problems), refused.state == "refused")
    late(drill)
    killed(drill)


def fired_twice(drill: Drill) -> None:
    say("day 2: the schedule, a second firing and a run by hand, all at once")
    drill.days.deliver(1)
    until(lambda: _owner(drill, 2) is not None, "a claim of day 2")
    command = [sys.executable, "-m", "recdistill", "retrain", str(drill.config), "--quiet"]
    account = drill.account(2)
    assert account is not None
    by_hand = subprocess.Popen([*command, "--window", account.window.name], stdout=subprocess.PIPE, text=True)
    with client(drill) as prefect:
        second = prefect.create_flow_run_from_deployment(drill.deployment)
        first = drill.record(2)
        said, _ = by_hand.communicate(timeout=_PATIENCE_S)
        until(lambda: prefect.read_flow_run(second.id).state.is_final(), "the second firing")
        state = prefect.read_flow_run(second.id).state.name
    (same,) = json.loads(said.splitlines()[-1])["windows"]
    drill.check("the run by hand returns the first's result", f"version {_version(first)}", Record(**same) == first)
    drill.check("the second firing ends well", state, state == "Completed")


def down(drill: Drill) -> None:
    say("day 3: nothing fires")
    with client(drill) as prefect:
        prefect.pause_deployment(drill.deployment)
        until(lambda: not _at_work(prefect), "an idle schedule")
        drill.days.deliver(2)
        time.sleep(EVERY_S * 1.5)
        account = drill.account(3)
        state = "none" if account is None else account.state
        drill.check("while the schedule is down the window is due", state, state == "due")
        say("day 4: the schedule is back")
        drill.days.deliver(3)
        prefect.resume_deployment(drill.deployment)
    states = [drill.record(day).state for day in (3, 4)]
    drill.check("the next firing does both windows", states, states == ["done", "done"])


def late(drill: Drill) -> None:
    say("day 6: its data come after those of day 7")
    drill.days.deliver(6)
    with client(drill) as prefect:
        before = _num_ended(prefect)
        until(lambda: _num_ended(prefect) >= before + 2, "two more firings")
    found = [None if (account := drill.account(day)) is None else account.state for day in (6, 7)]
    drill.check("both windows wait for the late day", found, found == ["waiting", "waiting"])


def killed(drill: Drill) -> None:
    drill.days.deliver(5)
    drill.record(6)
    say("day 7: killed in the middle of a step")
    at_work = _at_work_on(drill, 7)
    until(lambda: any(at_work.glob(".unfinished-distil-*")), "the distil step of day 7", every_s=0.01)
    kept = {path.name: path.stat().st_ino for path in _folders(drill, 7, "train_teacher-*")}
    owner = _owner(drill, 7)
    assert owner is not None
    os.kill(owner, signal.SIGKILL)
    say(f"killed process {owner}")
    record = drill.record(7)
    account = drill.account(7)
    assert account is not None
    attempts = read_json(open_ledger(drill.run).root(account.window) / "plan.json")["attempts"]
    drill.check("the window is done by another process", f"{record.state}, attempt {attempts}", attempts == 2)
    same = {path.name: path.stat().st_ino for path in _folders(drill, 7, "train_teacher-*")}
    drill.check("which goes on after the last finished step", ", ".join(same), bool(kept) and same == kept)


def account_for(drill: Drill) -> None:
    """What has to be true at the end of such a week."""
    found = accounts(drill.run)
    records = [account.record for account in found if account.record is not None]
    states = [record.state for record in records]
    wanted = ["done"] * 4 + ["refused"] + ["done"] * 2
    drill.check("seven windows are accounted for", ", ".join(states), states == wanted)
    bad = set(records[4].held_back)
    read = {name for record in records[5:] for name in _names(drill, record)}
    drill.check("no later window reads the poisoned files", f"{len(bad & read)} of {len(bad)}", bool(bad - read))
    kinds = [record.kind for record in records if record.state == "done"]
    drill.check("windows in between are incremental", ", ".join(kinds), kinds.count("incremental") >= 4)
    costs = [record.cost["cost"]["auc"][0] for record in records if record.cost is not None]
    drill.check("a full one says what the warm start cost", costs, len(costs) == 1)
    registry = open_registry(drill.run)
    versions = registry.client.search_model_versions(f"name='{drill.run.model}'")
    bundles = {version.tags["bundle_sha256"] for version in versions}
    fine = len(versions) == len(bundles) == states.count("done")
    drill.check("one version per bundle and window", f"{len(versions)} of {len(bundles)} bundles", fine)
    passed = [_version(record) for record in records if record.verdict == "PASS"]
    events = [event.version for event in registry.history() if event.action == "promote"]
    drill.check("the history is that of the windows that passed", events, events == passed)
    champion = registry.champion()
    now = None if champion is None else int(champion.version)
    drill.check("the champion is the newest that passed", f"version {now}", bool(passed) and now == passed[-1])
    with client(drill) as prefect:
        until(lambda: not _at_work(prefect), "an end of every flow run")
        states = [run.state.name for run in prefect.read_flow_runs(limit=200) if run.state is not None]
        drill.check("the kill is Crashed in Prefect", states.count("Crashed"), states.count("Crashed") == 1)


def _names(drill: Drill, record: Record) -> list[str]:
    return [file["name"] for file in read_json(open_ledger(drill.run).folder / record.name / "manifest.json")["files"]]


def _version(record: Record) -> int:
    assert record.result is not None
    return int(record.result["version"])


def _owner(drill: Drill, day: int) -> int | None:
    """The process at work on a day's window."""
    account = drill.account(day)
    owner = None if account is None else owner_of(open_ledger(drill.run).claim(account.window))
    return None if owner is None else owner.pid


def _at_work_on(drill: Drill, day: int) -> Path:
    """Where a day's window keeps its steps, once its data are there."""
    until(lambda: drill.account(day) is not None, f"the window of day {day}")
    account = drill.account(day)
    assert account is not None
    return open_ledger(drill.run).root(account.window)


def _folders(drill: Drill, day: int, pattern: str) -> list[Path]:
    account = drill.account(day)
    return [] if account is None else sorted(open_ledger(drill.run).root(account.window).glob(pattern))


@contextmanager
def client(drill: Drill) -> Iterator[Any]:
    """Of the drill's own server."""
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(drill.stack.prefect_api) as found:
        yield found


def _at_work(prefect: Any) -> list[Any]:
    """Flow runs that have not ended, those aside whose time has not come."""
    now = datetime.now(UTC)
    found = [run for run in prefect.read_flow_runs(limit=200) if run.state is not None and not run.state.is_final()]
    return [run for run in found if run.state.name != "Scheduled" or run.expected_start_time <= now]


def _num_ended(prefect: Any) -> int:
    return sum(run.state is not None and run.state.is_final() for run in prefect.read_flow_runs(limit=200))


def serve(config: Path, every_s: int) -> None:
    """Serve the flow on a schedule until the process is stopped; a child of the drill."""
    from flows.retrain import retrain

    parameters = {"parameters": {"config": str(config)}}
    retrain.serve(name="drill", parameters=parameters, interval=every_s, limit=2, pause_on_shutdown=False)


@contextmanager
def servers(config: Path) -> Iterator[Stack]:
    """A Prefect server of its own and the process that serves the flow; both are stopped in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stack = Stack(
        folder=FOLDER.resolve(),
        project=Path.cwd(),
        prefect_port=port,
        mlflow_port=1,
        postgres_port=1,
        database="sqlite",
    )
    server = services(stack)["prefect"]
    quick = {"PREFECT_RUNNER_POLL_FREQUENCY": "2", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    serving = Service(
        name="serve",
        command=[sys.executable, __file__, str(config), "--serve"],
        environment=stack.environment() | quick,
        folder=stack.folder,
        ready=lambda: True,
    )
    try:
        server.start(stack.project)
        server.wait(_PATIENCE_S)
        serving.start(stack.project)
        yield stack
    finally:
        serving.stop()
        server.stop()


def made_days(config: Path) -> Days:
    if "globo" not in config.stem:
        return synth_days(FOLDER)
    if not GLOBO.is_dir():
        remedy = "run the drill without CONFIG, on a generated log"
        raise BadInput(problem(str(GLOBO), wanted="the globo log", found="none", remedy=remedy))
    return globo_days(FOLDER)


def deployed(stack: Stack) -> str:
    """The id of the served deployment, once it is there."""
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(stack.prefect_api) as prefect:
        until(lambda: bool(prefect.read_deployments()), "a deployment")
        return str(prefect.read_deployments()[0].id)


def table(drill: Drill) -> None:
    windows = Table(title="The week")
    for heading in ("day", "window", "what happened", "state", "trained", "verdict", "version"):
        windows.add_column(heading)
    for day, (account, happened) in enumerate(zip(accounts(drill.run), _HAPPENED, strict=True), start=1):
        record = account.record
        cells = [account.state, "", "", ""]
        if record is not None and record.state == "done":
            cells = [record.state, record.kind, record.verdict, str(_version(record))]
        windows.add_row(str(day), account.window.name, happened, *cells)
    checks = Table(title="Checks")
    for heading in ("wanted", "found", ""):
        checks.add_column(heading)
    for wanted, found, fine in drill.checks:
        checks.add_row(wanted, found, "ok" if fine else "OFF")
    console = Console(width=150)
    console.print(windows, checks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--serve", action="store_true", help="used by the drill itself")
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.config, EVERY_S)
        return 0
    shutil.rmtree(FOLDER, ignore_errors=True)
    began = time.monotonic()
    run = load(asked.config)
    days = made_days(asked.config)
    days.log.mkdir(parents=True)
    with servers(asked.config) as stack:
        drill = Drill(run=run, config=asked.config, days=days, stack=stack, deployment=deployed(stack))
        week(drill)
        account_for(drill)
    table(drill)
    off = [wanted for wanted, _, fine in drill.checks if not fine]
    found = {"checks": len(drill.checks), "off": off, "minutes": round((time.monotonic() - began) / 60, 1)}
    write_json(FOLDER / "drill.json", found)
    print(json.dumps(found))
    return 1 if off else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BadInput as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        sys.exit(2)

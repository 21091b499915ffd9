"""One window retrained, once and for all; and all windows that are due, oldest first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from recdistill.config.run import Run
from recdistill.data.prepare import PARTS
from recdistill.files import manifest, write_json
from recdistill.pipeline import Call, plain_call, run_all
from recdistill.problems import BadInput, problem
from recdistill.result import result
from recdistill.train.progress import logger
from recdistill.windows.calendar import Held, Standing, Window, held, standing, watermark, windows
from recdistill.windows.claims import Claim, claim
from recdistill.windows.cost import warm_start_cost
from recdistill.windows.ledger import Ledger, Record, learns, open_ledger
from recdistill.windows.plan import Plan, drop_plan, planned, run_of

MOST_ATTEMPTS = 3
"""A window whose run died or broke so often is recorded as failed, so that the windows after it go on."""
COST = "warm_start_cost.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What there is to say of a window. record: None where it is still to be done."""

    window: Window
    standing: Standing
    record: Record | None

    @property
    def state(self) -> str:
        return self.standing if self.record is None else self.record.state


def accounts(run: Run) -> list[Account]:
    """Every window that the log reaches the end of, oldest first; a record by any settings accounts for it.

    BadInput for a config without windows.
    """
    return list(_accounts(run, _log(run)))


def _accounts(run: Run, log: Held) -> Iterator[Account]:
    settings, partition = run.windows, run.data.partition
    assert settings is not None
    assert partition is not None
    ledger = open_ledger(run)
    by_any = {record.window: record for record in ledger.records()}
    for window in windows(settings, partition, watermark(partition, log)):
        record = ledger.of(window) or by_any.get(window.name)
        yield Account(window=window, standing=standing(settings, partition, window, log), record=record)


def _log(run: Run) -> Held:
    if run.windows is None:
        remedy = "add it, as in configs/drill.yaml"
        raise BadInput(problem("windows", wanted="this section of the config", found="none", remedy=remedy))
    return held(run.data)


def catch_up(run: Run, call: Call = plain_call) -> list[Record]:
    """Retrain every window that is due and not accounted for, oldest first; their records, and of those skipped.

    A window is not begun before all that are older are accounted for: while one waits for a partition, so do those
    after it.
    """
    did: list[Record] = []
    while (account := _next(run)) is not None:
        if account.standing == "skipped":
            said = [f"window {account.window.name}: its partitions never came"]
            did.append(open_ledger(run).write(account.window, state="skipped", problems=said))
        else:
            did.append(retrain_window(run, account.window, call))
    return did


def window_ending(run: Run, end: datetime) -> Window:
    """BadInput where the log does not reach the end of such a window."""
    known = [account.window for account in accounts(run)]
    found = next((window for window in known if window.end == end), None)
    if found is None:
        names = ", ".join(window.name for window in known[-5:]) or "none"
        remedy = "`recdistill windows` lists them"
        raise BadInput(problem("window", wanted=f"the end of one, as in {names}", found=f"{end}", remedy=remedy))
    return found


def _next(run: Run) -> Account | None:
    account = next((found for found in accounts(run) if found.record is None), None)
    if account is None or account.standing == "waiting":
        state = "no window is due" if account is None else f"window {account.window.name} waits for its partitions"
        logger.info("%s: %s", run.name, state)
        return None
    return account


def retrain_window(
    run: Run, window: Window, call: Call = plain_call, *, full: bool = False, again: bool = False
) -> Record:
    """The record of (config, window): the one there is, else that of the run that this does.

    One process works on a window at a time; another that asks for it waits, and gets the first's record. full: train
    from fresh weights, whatever the turn. again: do a window anew that has a record, on what the log holds now.

    BadInput where the data are refused under a config that no window was ever done by: the config may be wrong, so
    nothing is recorded. What breaks otherwise is raised, and tried again by the next call, MOST_ATTEMPTS times at most.
    """
    ledger = open_ledger(run)
    found = None if again else ledger.of(window)
    if found is not None:
        return found
    with claim(ledger.claim(window)) as mine:
        found = None if again else ledger.of(window)
        if found is not None:
            return found
        if again:
            ledger.forget(window)
            drop_plan(ledger.root(window))
        return _retrain(run, window, ledger, call, mine, full=full)


def _retrain(run: Run, window: Window, ledger: Ledger, call: Call, mine: Claim, *, full: bool) -> Record:
    try:
        plan = planned(run, window, ledger, _log(run), full=full)
    except BadInput as error:
        return ledger.write(window, state="skipped", problems=list(error.problems))
    kind = "full" if plan.full else "incremental"
    about = {"learns": learns(run), "kind": kind, "base": plan.base, "since_full": plan.since_full}
    if plan.attempts > MOST_ATTEMPTS:
        said = [f"window {window.name}: died or broke {MOST_ATTEMPTS} times; see {ledger.root(window)}"]
        return ledger.write(window, state="failed", problems=said, **about)
    own = run_of(run, window, ledger, plan)
    root = Path(own.folder)
    if plan.base is not None:
        _share_parts(ledger.folder / plan.base, root)
    logger.info("window %s: %s, attempt %d, after %s", window.name, kind, plan.attempts, plan.base or "none")
    try:
        cost = _cost(run, window, ledger, plan, own, call)
        done = run_all(own, call)
    except BadInput as error:
        if any(root.glob("prepare-*")):  # the data were fine
            raise
        if not any(record.state == "done" and record.config == ledger.config for record in ledger.records()):
            drop_plan(root)
            raise
        mine.check()
        return ledger.write(window, state="refused", problems=list(error.problems), held_back=plan.new, **about)
    mine.check()
    folders = {step: str(folder) for step, folder in done.folders.items()}
    return ledger.write(window, state="done", result=result(own, done.folders), folders=folders, cost=cost, **about)


def _cost(run: Run, window: Window, ledger: Ledger, plan: Plan, own: Run, call: Call) -> dict[str, Any] | None:
    """On the window of a periodic full training, what a warm start would have done; None on others."""
    assert run.windows is not None
    if not plan.full or plan.train_from is None or run.windows.full_every == 1 or run.data.pairs is not None:
        return None
    full = run_all(own, call, until="evaluate")
    root = Path(own.folder)
    warm = run_of(run, window, ledger, replace(plan, full=False)).model_copy(update={"root": str(root / "warm")})
    _share_parts(root, root / "warm")
    found = warm_start_cost(own, full.folders, run_all(warm, call, until="evaluate").folders)
    write_json(root / COST, found)
    return found


def _share_parts(source: Path, root: Path) -> None:
    """Hard links to the parts of another run, so that only new files are read and encoded."""
    for part in (source / PARTS).glob("part-*"):
        final = root / PARTS / part.name
        if manifest(part) is not None and not final.exists():
            temporary = root / f".unfinished-{final.name}-{os.getpid()}"  # where the next run sweeps
            shutil.copytree(part, temporary, copy_function=os.link)
            final.parent.mkdir(exist_ok=True)
            temporary.rename(final)

"""Rollback that does not wait for MLflow: a server's own memory of champions, changed here and told to MLflow then."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.files import read_json, write_json
from recdistill.problems import BadInput, problem
from recdistill.promotion.events import Event, chained, read_chain
from recdistill.promotion.log_copy import COPY, read_copy, write_copy
from recdistill.promotion.registry import Registry, Unreachable, may_answer_later, open_registry
from recdistill.promotion.succession import Superseded, back
from recdistill.serve.serving import champion_state
from recdistill.serve.store import Current, keep, pointer, read_current, write_current

if TYPE_CHECKING:
    from recdistill.config.run import Run

logger = logging.getLogger("recdistill.promotion")
_PENDING = "rollbacks"
_SOON = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def roll_back(run: Run, *, why: str, who: str, state: Path | None = None) -> tuple[Event, bool]:
    """Put the champion before this one back, and whether MLflow knows already.

    This machine's servers that follow the champion go back at once, whatever MLflow does; then MLflow is told, or it is
    told by them when it answers again. state: their --state. BadInput where there is nothing to go back to, Superseded
    where MLflow has another champion by now than they knew of, which they then follow.
    """
    here = champion_state(run.model, state)
    before = read_current(here)
    done, nothing = None, []
    try:
        done = roll_back_here(here, run.model, why=why, who=who, at=time.time())
    except BadInput as error:
        nothing = error.problems
    for name, value in _SOON.items():
        os.environ.setdefault(name, value)
    try:
        registry = open_registry(run)
        if done is None:
            return registry.rollback(why=why, who=who), True
        void = replay(registry, here)
    except Exception as error:
        if not isinstance(error, Unreachable) and not may_answer_later(error):
            raise
        if done is None:
            raise BadInput([*str(error).splitlines()[:1], *nothing]) from None
        return done, False
    if void:
        if before is not None:
            write_current(here, before)
        write_copy(here / COPY, registry.log_entries())
        raise Superseded(void)
    return done, True


def remember(registry: Registry, state: Path) -> None:
    """Keep what a rollback without MLflow needs beside a server: the promotion log and the champions' bundles."""
    entries = registry.log_entries()
    if entries != read_copy(state / COPY):
        write_copy(state / COPY, entries)
    for version in (registry.aliased("previous_champion"), registry.champion()):
        if version is None:
            continue
        digest = version.tags.get("bundle_sha256", "")
        folder = state / "bundles" / digest
        if folder.is_dir():
            os.utime(folder)  # the oldest ones are forgotten
        else:
            with registry.download(version) as fetched:
                keep(fetched, state, str(version.version), digest)


def roll_back_here(state: Path, model: str, *, why: str, who: str, at: float) -> Event:
    """Make a server on this machine serve the champion before its present one, and note it for MLflow.

    BadInput where this machine does not know that one, or has not its whole bundle.
    """
    entries = read_copy(state / COPY)
    if not entries:
        remedy = "start the tracking store, or run it where `recdistill serve` follows the champion"
        raise BadInput(problem(str(state), wanted="what a server remembers", found="nothing", remedy=remedy))
    for _, event in _pending(state):
        entries.append(chained(event, entries))
    event = back(model, read_chain(str(state / COPY), entries), why=why, who=who, at=at)
    bundle = pointer(state / "bundles" / event.bundle_sha256, str(event.version))
    _note(state, event, len(entries))
    present = read_current(state)
    write_current(state, Current(champion=bundle, challenger=None if present is None else present.challenger))
    return event


def replay(registry: Registry, state: Path) -> list[str]:
    """Tell MLflow of the rollbacks that were done here; a line for each that is void, its champion being replaced."""
    void = []
    for path, event in _pending(state):
        try:
            registry.add(event)
        except Superseded as error:
            void += error.problems
            logger.warning("a rollback that was done without MLflow is void: %s", error.problems[0])
        path.unlink(missing_ok=True)
    return void


def _pending(state: Path) -> list[tuple[Path, Event]]:
    paths = sorted((state / _PENDING).glob("*.json"))
    return [(path, Event(**read_json(path))) for path in paths]


def _note(state: Path, event: Event, number: int) -> None:
    folder = state / _PENDING
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{number:06d}.json", asdict(event))

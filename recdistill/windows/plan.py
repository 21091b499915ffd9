"""What a window's run reads and begins with, written down before it starts, so that a second attempt does the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from recdistill.config.recipe import RecipeSection
from recdistill.config.run import Run
from recdistill.data.log.manifest import MADE_BY, sha256_of
from recdistill.data.log.sources import listed, locate
from recdistill.files import read_json, write_json
from recdistill.problems import BadInput, problem
from recdistill.windows.calendar import Held, Window
from recdistill.windows.ledger import Ledger, Record, held_back, learns

LAST = "last"
"""As recipe.previous: the run of the window before."""
_MANIFEST, _PLAN = "manifest.json", "plan.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """valid_from, test_from: ISO instants. base: the record whose run this one may go on from, and whose logits the
    recipe may ask for; None has none. train_from: where the base's train window ended, if there is more to learn from
    since. full: whether it trains on all, from fresh weights, and not from there on. since_full: windows since the last
    that did. attempts: how often this has been begun. new: name -> sha256 of the files that are new in this window.
    """

    valid_from: str
    test_from: str
    train_from: str | None
    base: str | None
    full: bool
    since_full: int
    attempts: int
    new: dict[str, str]


def planned(run: Run, window: Window, ledger: Ledger, log: Held, *, full: bool) -> Plan:
    """The plan of a window, as it was made when it was first begun, with one attempt more; it is written before it is
    followed. full: train from fresh weights, whatever the turn. BadInput where the window has too few partitions."""
    root = ledger.root(window)
    root.mkdir(parents=True, exist_ok=True)
    path = root / _PLAN
    if path.is_file():
        known = read_json(path)
        plan = Plan(**{**known, "attempts": known["attempts"] + 1})
    else:
        plan = _plan(run, window, ledger, log, full=full)
    write_json(path, asdict(plan))
    return plan


def drop_plan(root: Path) -> None:
    """Let the next attempt look at log and ledger anew."""
    (root / _PLAN).unlink(missing_ok=True)


def _plan(run: Run, window: Window, ledger: Ledger, log: Held, *, full: bool) -> Plan:
    records = ledger.records()
    files = _files(run, window, log, held_back(records))
    write_json(ledger.root(window) / _MANIFEST, _manifest(run, files))
    usable = [begin for begin in window.begins if any(name in files for name in log.get(begin, ()))]
    assert run.windows is not None
    num_valid, num_test = run.windows.valid, run.windows.test
    if len(usable) <= num_valid + num_test:
        found, remedy = f"{len(usable)} of {len(window.begins)}", "mend the log, or skip this window"
        wanted = f"more than {num_valid + num_test} usable partitions"
        raise BadInput(problem(f"window {window.name}", wanted=wanted, found=found, remedy=remedy))
    valid, test = usable[-num_valid - num_test], usable[-num_test]
    base = base_of(records, window, learns(run))
    begins = None if base is None else _train_end(base)
    since = 0 if base is None else base.since_full + 1
    more = begins is not None and any(begins <= begin < valid for begin in usable)
    full = full or not more or since >= run.windows.full_every
    new = {name for begin in window.new for name in log.get(begin, ())}
    return Plan(
        valid_from=valid.isoformat(),
        test_from=test.isoformat(),
        train_from=begins.isoformat() if begins is not None and more else None,
        base=None if base is None else base.name,
        full=full,
        since_full=0 if full else since,
        attempts=1,
        new={name: sha256 for name, sha256 in files.items() if name in new},
    )


def base_of(records: Sequence[Record], window: Window, wanted: str) -> Record | None:
    """The last run before a window that passed its gates with the same settings of what is learned, and is still there.

    None where there is none.
    """
    fit = [
        record
        for record in records
        if record.state == "done"
        and record.verdict != "FAIL"
        and record.learns == wanted
        and datetime.fromisoformat(record.end) < window.end
        and all(Path(folder).is_dir() for folder in record.folders.values())
    ]
    return max(fit, key=lambda record: record.end, default=None)


def run_of(run: Run, window: Window, ledger: Ledger, plan: Plan) -> Run:
    """The settings of a window's run: its files, its windows in time, and what it begins as."""
    root = ledger.root(window)
    train_from = None if plan.full or plan.train_from is None else datetime.fromisoformat(plan.train_from)
    base = next((record for record in ledger.records() if record.name == plan.base), None)
    split = run.data.split.model_copy(
        update={
            "valid_from": datetime.fromisoformat(plan.valid_from),
            "test_from": datetime.fromisoformat(plan.test_from),
            "train_from": train_from,
        }
    )
    data = {"start": window.start, "end": window.end, "manifest": str(root / _MANIFEST), "split": split}
    update: dict[str, Any] = {
        "root": str(root),
        "windows": None,
        "data": run.data.model_copy(update=data),
        "recipe": _recipe(run.recipe, None if base is None else str(ledger.folder / base.name)),
    }
    if base is not None and not plan.full:
        folders = base.folders
        update["features"] = run.features.model_copy(update={"grow_from": folders["prepare"]})
        update["teacher"] = run.teacher.model_copy(update={"warm_start": folders["train_teacher"]})
        update["student"] = run.student.model_copy(update={"warm_start": folders["distil"]})
    return run.model_copy(update=update)


def _recipe(recipe: RecipeSection, previous: str | None) -> RecipeSection:
    """With `last` for the run before: that run's folder; where there is none, without the targets that look at it."""
    if recipe.previous != LAST:
        return recipe
    if previous is not None:
        return recipe.model_copy(update={"previous": previous})
    first = [target for target in recipe.targets if "previous" not in target.choice().plugin.needs]
    return recipe.model_copy(update={"previous": None, "targets": first})


def _files(run: Run, window: Window, log: Held, never: Any) -> dict[str, str]:
    """Name -> sha256 of the window's files that may be read."""
    place = locate(run.data.source)
    names = [name for begin in (*window.begins, *window.tail) for name in log.get(begin, ())]
    found = {name: sha256_of(place.filesystem, place.path(name)) for name in names}
    return {name: sha256 for name, sha256 in found.items() if sha256 not in never.get(name, ())}


def _manifest(run: Run, files: dict[str, str]) -> dict[str, Any]:
    """As `recdistill manifest` writes one, less what is not read back from it."""
    form, _ = listed(locate(run.data.source), run.data.format)
    return {"made_by": MADE_BY, "format": form, "files": [{"name": n, "sha256": s} for n, s in files.items()]}


def _train_end(base: Record) -> datetime:
    """Where the base's train window ended."""
    found = read_json(Path(base.folders["prepare"]) / "data.json")["windows"]
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=found["valid"] - found["embargo"])

"""The retraining flow's work where a config has windows: what is due, and what became of each as an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from recdistill.config.run import Run
from recdistill.metrics.bootstrap import cell
from recdistill.pipeline import Call
from recdistill.windows.ledger import Record
from recdistill.windows.retrain import accounts, catch_up, retrain_window, window_ending

ARTIFACT = "retrain-windows"


class WindowsFailed(RuntimeError):
    """A window was refused, failed its gates or broke too often. found: all windows of this run, as JSON."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found
        wrong = [record for each in found["windows"] if (record := Record(**each)).status]
        super().__init__("; ".join(f"window {record.window}: {_why(record)}" for record in wrong))


def retrained_windows(run: Run, window: datetime | None, call: Call, *, full: bool, again: bool) -> dict[str, Any]:
    """{"windows": records}: of the window that ends then, else of all that were due; of the newest where none was.

    WindowsFailed, after the artifact, where one of them did not end well that was due.
    """
    due = True
    if window is not None:
        records = [retrain_window(run, window_ending(run, window), call, full=full, again=again)]
    elif not (records := catch_up(run, call)):
        due = False
        records = [account.record for account in accounts(run) if account.record is not None][-1:]
        get_run_logger().info("%s: no window is due", run.name)
    found = {"due": due, "windows": [record.to_json() for record in records]}
    if due:
        create_table_artifact([_row(record) for record in records], key=ARTIFACT, description=f"{run.name}: windows")
    if due and windows_status(found):
        raise WindowsFailed(found)
    return found


def windows_status(found: Mapping[str, Any]) -> int:
    """0 where all are done and passed or skipped, 1 where a gate said no, 2 where data were refused or a run broke."""
    return max((Record(**record).status for record in found["windows"]), default=0)


def _why(record: Record) -> str:
    if record.result is None:
        return f"{record.state}: {'; '.join(record.problems)}"
    gates = [gate for gate in record.result["gates"] if gate["verdict"] == "FAIL"]
    return "not promoted: " + "; ".join(f"{g['name']}: wanted {g['wanted']}, found {g['found']}" for g in gates)


def _row(record: Record) -> dict[str, Any]:
    """A line of the artifact. The cost of a warm start: AUC of the warm one minus that of the full one."""
    result = record.result or {}
    return {
        "window": record.window,
        "state": record.state,
        "trained": record.kind,
        "after": record.base or "",
        "verdict": record.verdict,
        "version": result.get("version", ""),
        "auc": cell(result["shipped"]["auc"]) if result else "",
        "warm start's cost": cell(record.cost["cost"]["auc"], signed=True) if record.cost else "",
        "why": "; ".join(record.problems),
    }

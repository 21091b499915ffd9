"""The commands windows and retrain: what there is to retrain on, and the retraining itself, without Prefect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from recdistill.cli.options import Config, Overrides, Quiet, open_config

if TYPE_CHECKING:
    from recdistill.windows.ledger import Record
    from recdistill.windows.retrain import Account

window_commands = typer.Typer()

_COLUMNS = ("window", "state", "trained", "after", "verdict", "version", "warm start's cost (auc)")


@window_commands.command()
def windows(config: Config, overrides: Overrides = None) -> None:
    """Every window that the log reaches the end of, and what became of it. Last line: one JSON."""
    settings = open_config(config, overrides, quiet=True)
    from recdistill.windows.claims import owner_of
    from recdistill.windows.ledger import open_ledger
    from recdistill.windows.retrain import accounts

    ledger, found = open_ledger(settings), accounts(settings)
    lines = [_line(account, at_work=owner_of(ledger.claim(account.window)) is not None) for account in found]
    print(_table(lines))
    for line in (line for account in found if account.record is not None for line in account.record.problems):
        print(line)
    print(json.dumps({"windows": [{"window": a.window.name, "state": a.state} for a in found]}))


@window_commands.command()
def retrain(
    config: Config,
    overrides: Overrides = None,
    window: Annotated[
        datetime | None, typer.Option(help="only the window that ends then (UTC)", formats=["%Y-%m-%d", "%Y-%m-%dT%H"])
    ] = None,
    full: Annotated[bool, typer.Option(help="train that window from fresh weights, whatever its turn")] = False,
    again: Annotated[bool, typer.Option(help="do that window anew if it is done, on what the log holds now")] = False,
    quiet: Quiet = False,
) -> None:
    """Retrain every window that is due, oldest first, or one. Last line: one JSON. Exit status as of run, the worst."""
    settings = open_config(config, overrides, quiet)
    from recdistill.config.sections import utc
    from recdistill.problems import BadInput, problem
    from recdistill.windows.retrain import catch_up, retrain_window, window_ending

    end = utc(window)
    if end is None:
        if full or again:
            remedy = "say which"
            raise BadInput(problem("--full and --again", wanted="--window beside them", found="none", remedy=remedy))
        records = catch_up(settings)
    else:
        records = [retrain_window(settings, window_ending(settings, end), full=full, again=again)]
    if not quiet:
        print(_table([_cells(record) for record in records]) if records else "no window is due")
        for line in (line for record in records for line in record.problems):
            print(line)
    print(json.dumps({"windows": [record.to_json() for record in records]}))
    status = max((record.status for record in records), default=0)
    if status:
        raise typer.Exit(status)


def _line(account: Account, *, at_work: bool) -> Sequence[str]:
    if account.record is not None:
        return _cells(account.record)
    return (account.window.name, f"{account.state}, at work" if at_work else account.state, *[""] * 5)


def _cells(record: Record) -> Sequence[str]:
    from recdistill.metrics.bootstrap import cell

    version = "" if record.result is None else str(record.result["version"])
    cost = "" if record.cost is None else cell(record.cost["cost"]["auc"], signed=True)
    trained = record.kind if record.state == "done" else ""
    return (record.window, record.state, trained, record.base or "", record.verdict, version, cost)


def _table(lines: Sequence[Sequence[str]]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in _COLUMNS:
        table.add_column(heading)
    for line in lines:
        table.add_row(*line)
    console = Console(width=150, no_color=True)
    with console.capture() as captured:
        console.print(table)
    return captured.get()

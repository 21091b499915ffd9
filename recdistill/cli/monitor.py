"""The commands that watch a promoted model: monitor drift, quality, health, staleness."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recdistill.cli.options import Config, Overrides, Quiet, open_config

if TYPE_CHECKING:
    from recdistill.config.run import Run
    from recdistill.monitor.finding import Finding

monitor_commands = typer.Typer(no_args_is_help=True, help="Watch a promoted model; exit status 1 where alarms are new.")

Textfile = Annotated[Path | None, typer.Option(help="a folder for a .prom file, as node exporter collects them")]
Start = Annotated[datetime, typer.Option(help="of the new window; UTC")]
End = Annotated[datetime, typer.Option(help="where the window ends; UTC")]


@monitor_commands.command()
def drift(
    config: Config,
    start: Start,
    end: End,
    overrides: Overrides = None,
    textfile: Textfile = None,
    quiet: Quiet = False,
) -> None:
    """Every feature of a new window of the log against the champion's training window."""
    run = open_config(config, overrides, quiet)
    from recdistill.config.sections import utc
    from recdistill.monitor.drifted import watch_drift
    from recdistill.monitor.finding import of_drift

    begins, ends = utc(start), utc(end)
    assert begins is not None
    assert ends is not None
    _say(run, of_drift(watch_drift(run, begins, ends)), textfile, quiet)


@monitor_commands.command()
def quality(
    config: Config,
    scored: Annotated[Path, typer.Argument(help="what the server logged or score-file wrote", show_default=False)],
    labels: Annotated[Path, typer.Argument(help="Parquet of the labels that came", show_default=False)],
    overrides: Overrides = None,
    until: Annotated[datetime | None, typer.Option(help="labels are complete up to here; else their latest")] = None,
    textfile: Textfile = None,
    quiet: Quiet = False,
) -> None:
    """Calibration, AUC and NDCG of every window whose labels have come, by slice, and the alarm over them."""
    run = open_config(config, overrides, quiet)
    from recdistill.config.sections import utc
    from recdistill.monitor.finding import of_quality
    from recdistill.monitor.quality import watch_quality

    _say(run, of_quality(run, watch_quality(run, scored, labels, utc(until))), textfile, quiet)


@monitor_commands.command()
def health(
    config: Config,
    server: Annotated[str, typer.Argument(help="http://HOST:PORT of recdistill serve", show_default=False)],
    overrides: Overrides = None,
    textfile: Textfile = None,
    quiet: Quiet = False,
) -> None:
    """A server's errors, p99 and refused models since the last look, and whether it serves the champion."""
    run = open_config(config, overrides, quiet)
    from recdistill.monitor.finding import of_health
    from recdistill.monitor.health import clock, watch_health

    found = watch_health(run, server, clock(), os.environ.get("RECDISTILL_TOKEN"))
    _say(run, of_health(found), textfile, quiet)


@monitor_commands.command()
def staleness(
    config: Config,
    overrides: Overrides = None,
    horizon: Annotated[int, typer.Option(min=1, help="how old a model may get, in windows")] = 4,
    textfile: Textfile = None,
    quiet: Quiet = False,
) -> None:
    """What models lose with age on back-test windows (trained where they are not yet), and how soon to retrain."""
    run = open_config(config, overrides, quiet)
    from recdistill.monitor.finding import of_staleness
    from recdistill.monitor.staleness import staleness as measured

    _say(run, of_staleness(measured(run, horizon)), textfile, quiet)


def _say(run: Run, finding: Finding, textfile: Path | None, quiet: bool) -> None:
    """Table, alarms, one JSON line; exit status 1 with alarms."""
    from recdistill.monitor.finding import keep

    path = keep(run, finding, textfile)
    if not quiet:
        print("\n".join([*finding.lines, *finding.alarms]))
    print(json.dumps({"alarms": finding.alarms, "file": str(path)}))
    if finding.alarms:
        raise typer.Exit(1)

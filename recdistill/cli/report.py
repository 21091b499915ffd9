"""The command that writes a finished run's page again: report."""

from __future__ import annotations

import typer

from recdistill.cli.options import Config, Overrides, Quiet, open_config

report_commands = typer.Typer()


@report_commands.command()
def report(config: Config, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Write a finished run's report.html again, and log it beside the run in MLflow; prints its path."""
    settings = open_config(config, overrides, quiet)
    from recdistill.pipeline import finished
    from recdistill.report.write import write_report

    print(write_report(settings, finished(settings)))

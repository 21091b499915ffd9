"""The command line: recdistill run, each step, trace, doctor; the other commands come from the modules beside."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from recdistill.cli.cleanup import cleanup_commands
from recdistill.cli.compare import compare_commands
from recdistill.cli.data import data_commands
from recdistill.cli.gates import gate_commands
from recdistill.cli.monitor import monitor_commands
from recdistill.cli.options import Config, Overrides, Quiet, open_config
from recdistill.cli.plan import plan_commands
from recdistill.cli.promotion import promotion_commands
from recdistill.cli.recipes import recipe_commands
from recdistill.cli.report import report_commands
from recdistill.cli.search import search_commands
from recdistill.cli.serve import serve_commands
from recdistill.cli.ship import ship_commands
from recdistill.cli.stack import reconcile_commands, stack_commands
from recdistill.cli.windows import window_commands

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From interaction logs to a promoted, distilled student ranker.",
)

app.add_typer(data_commands)
app.add_typer(gate_commands)
app.add_typer(plan_commands)
app.add_typer(recipe_commands)
app.add_typer(compare_commands)
app.add_typer(cleanup_commands)
app.add_typer(serve_commands)
app.add_typer(search_commands)
app.add_typer(ship_commands)
app.add_typer(report_commands)
app.add_typer(promotion_commands)
app.add_typer(stack_commands, name="stack")
app.add_typer(monitor_commands, name="monitor")
app.add_typer(reconcile_commands)
app.add_typer(window_commands)

STEP_NAMES = ("prepare", "train_teacher", "score", "distil", "export", "evaluate", "decide", "publish")


def main() -> None:
    """Exit status: 0 done, 1 a gate said no, 2 bad config or data, with one line per problem."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    from recdistill.problems import BadInput

    try:
        app()
    except BadInput as error:
        for line in error.problems:
            print(line, file=sys.stderr)
        sys.exit(2)


@app.command()
def run(config: Config, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """The whole line: log -> teacher -> student and control -> bundle -> gates -> champion. Last line: one JSON."""
    settings = open_config(config, overrides, quiet)
    from recdistill.pipeline import run_all
    from recdistill.result import result, tables

    done = run_all(settings)
    found = result(settings, done.folders)
    if not quiet:
        print(tables(found))
        print(f"did: {', '.join(done.did) or 'nothing, all was up to date'}")
        print(f"{found['model']} version {found['version']}: {found['verdict']}; files in {found['run_dir']}")
    print(json.dumps(found))
    if found["verdict"] != "PASS":
        raise typer.Exit(1)


def _step_command(name: str) -> Callable[..., None]:
    def command(config: Config, overrides: Overrides = None, quiet: Quiet = False) -> None:
        settings = open_config(config, overrides, quiet)
        from recdistill.pipeline import run_all

        print(run_all(settings, until=name).folders[name])

    command.__doc__ = f"The steps up to {name}; prints the folder of the last."
    return command


for _name in STEP_NAMES:
    app.command(_name.replace("_", "-"), rich_help_panel="Single steps")(_step_command(_name))


@app.command()
def trace(
    config: Config,
    row_id: Annotated[int, typer.Argument(help="the row's number in the log")],
    overrides: Overrides = None,
) -> None:
    """One row at every stage: raw, encoded, teacher's logit, student's logit in torch and in the bundle; as JSON."""
    settings = open_config(config, overrides, quiet=True)
    from recdistill.trace import trace_row

    print(json.dumps(trace_row(settings, row_id), indent=2, default=str))


@app.command()
def doctor(
    quick: Annotated[bool, typer.Option(help="only what takes a second")] = False,
    tracking_uri: Annotated[str | None, typer.Option(help="also ask this MLflow store", show_default=False)] = None,
) -> None:
    """Check the installation and the machine, and say how to mend what is wrong; exit status 2 if something is."""
    from recdistill.doctor import check_all, render

    findings = check_all(quick=quick, tracking_uri=tracking_uri)
    print(render(findings))
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(2)

"""The command line: recdistill run, each step, trace, promote, rollback, history, doctor; other commands from cli_*."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recdistill.cli.compare import compare_commands
from recdistill.cli.data import data_commands
from recdistill.cli.options import Config, Overrides, Quiet, open_config
from recdistill.cli.plan import plan_commands
from recdistill.cli.recipes import recipe_commands
from recdistill.cli.report import report_commands
from recdistill.cli.search import search_commands
from recdistill.cli.serve import serve_commands
from recdistill.cli.ship import ship_commands
from recdistill.cli.stack import reconcile_commands, stack_commands
from recdistill.cli.windows import window_commands

if TYPE_CHECKING:
    pass

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From interaction logs to a promoted, distilled student ranker.",
)

Why = Annotated[str, typer.Option(help="the reason, kept in the history")]

app.add_typer(data_commands)
app.add_typer(plan_commands)
app.add_typer(recipe_commands)
app.add_typer(compare_commands)
app.add_typer(serve_commands)
app.add_typer(search_commands)
app.add_typer(ship_commands)
app.add_typer(report_commands)
app.add_typer(stack_commands, name="stack")
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
def promote(
    config: Config, version: int, overrides: Overrides = None, why: Why = "by hand", force: bool = False
) -> None:
    """Make a registered version champion by hand; one that failed its gates needs --force."""
    registry = _registry(config, overrides)
    from recdistill.problems import BadInput, problem

    found = registry.version(version)
    verdict = found.tags.get("verdict", "missing")
    if verdict != "PASS" and not force:
        remedy = "use --force to overrule, with --why"
        raise BadInput(problem(f"version {version}", wanted="verdict PASS", found=verdict, remedy=remedy))
    registry.promote(version, why=why, key=f"manual-{version}-{len(registry.history())}")
    print(f"{registry.model}: champion is version {version}")


@app.command()
def rollback(config: Config, overrides: Overrides = None, why: Why = "by hand") -> None:
    """Put the champion before this one back."""
    registry = _registry(config, overrides)
    event = registry.rollback(why=why)
    print(f"{registry.model}: champion is version {event.version} again, instead of {event.replaced}")


@app.command()
def history(config: Config, overrides: Overrides = None) -> None:
    """Who replaced whom as champion, when and why."""
    registry = _registry(config, overrides)
    events = registry.history()
    if not events:
        print(f"{registry.model}: no champion yet")
    for event in events:
        at = datetime.fromtimestamp(event.at, UTC).isoformat(" ", "seconds")
        replaced = "-" if event.replaced is None else event.replaced
        print(f"{at}  {event.action:8}  version {event.version} for {replaced}  by {event.who}: {event.why}")


def _registry(config: Path, overrides: list[str] | None) -> Any:
    settings = open_config(config, overrides, quiet=True)
    from recdistill.promotion.registry import open_registry

    return open_registry(settings)


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


if __name__ == "__main__":
    main()

"""recdistill stack and reconcile: both servers, a store and a worker on this machine; runs that died, closed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recdistill.cli.options import Quiet, say

if TYPE_CHECKING:
    from recdistill.stack.layout import Stack

stack_commands = typer.Typer(help="Prefect, MLflow and a worker on this machine, on loopback, all state in one folder.")
reconcile_commands = typer.Typer()

Folder = Annotated[Path, typer.Option(help="where all its state is")]
Port = Annotated[int, typer.Option(min=1024, max=65535)]
DatabaseOption = Annotated[
    Literal["auto", "postgresql", "sqlite"], typer.Option(help="auto: PostgreSQL where it is at hand")
]


@stack_commands.command()
def up(
    folder: Folder = Path("runs/stack"),
    prefect_port: Port = 4200,
    mlflow_port: Port = 5000,
    postgres_port: Port = 5433,
    database: DatabaseOption = "auto",
    quiet: Quiet = False,
) -> None:
    """Start both servers, deploy the flows of prefect.yaml, start a worker; what runs already is left as it is."""
    say(quiet)
    from recdistill.stack.control import up as start
    from recdistill.stack.layout import Stack
    from recdistill.stack.postgres import choose

    folder.mkdir(parents=True, exist_ok=True)
    stack = Stack(
        folder=folder.resolve(),
        project=Path.cwd(),
        prefect_port=prefect_port,
        mlflow_port=mlflow_port,
        postgres_port=postgres_port,
        database=choose(folder.resolve(), database),
    )
    start(stack)
    _show(stack)


@stack_commands.command()
def down(folder: Folder = Path("runs/stack"), quiet: Quiet = False) -> None:
    """Stop everything in good order. The state stays; a run that was at work goes on after the next `up`."""
    say(quiet)
    from recdistill.stack.control import down as stop
    from recdistill.stack.layout import open_stack

    stop(open_stack(folder))


@stack_commands.command()
def status(folder: Folder = Path("runs/stack")) -> None:
    """How every service is; exit status 1 where one does not run."""
    from recdistill.stack.control import status as look
    from recdistill.stack.layout import open_stack

    stack = open_stack(folder)
    _show(stack)
    if any(one.state != "running" for one in look(stack)):
        raise typer.Exit(1)


def _show(stack: Stack) -> None:
    """A line per service for people, and the addresses as one JSON line at the end."""
    from recdistill.stack.control import status as look

    for one in look(stack):
        where = "" if one.port is None else f"127.0.0.1:{one.port}"
        print(f"{one.name:9} {one.state:8} {one.pid or '-':>8}  {where}")
    about = {"prefect": f"http://127.0.0.1:{stack.prefect_port}", "mlflow": stack.mlflow_url}
    print(json.dumps({**about, "database": stack.database, "folder": str(stack.folder)}))


@reconcile_commands.command()
def reconcile(
    stale_s: Annotated[float, typer.Option(min=1, help="silence after which a run of another machine is dead")] = 600.0,
    resume: Annotated[bool, typer.Option(help="start scheduled and asked-for runs that died again")] = True,
    quiet: Quiet = False,
) -> None:
    """Close what a kill -9 left running, in Prefect and in MLflow, free its locks, and start it again where it was."""
    say(quiet)
    from flows.reconcile import reconciled

    print(json.dumps(reconciled(stale_s=stale_s, resume=resume)))

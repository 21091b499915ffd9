"""recdistill cleanup: old steps and versions that nothing needs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from recdistill.cli.options import Config, Overrides, Quiet, open_config

cleanup_commands = typer.Typer()


@cleanup_commands.command()
def cleanup(
    config: Config,
    overrides: Overrides = None,
    days: Annotated[float, typer.Option(min=0, help="only what is older")] = 30.0,
    keep: Annotated[int, typer.Option(min=1, help="last publications and versions that stay anyway")] = 3,
    delete: Annotated[bool, typer.Option("--delete", help="remove it; without, it is only listed")] = False,
    quiet: Quiet = False,
) -> None:
    """List what old runs left and nothing needs; --delete removes it. What a rollback may need never goes.

    Last line: one JSON.
    """
    run = open_config(config, overrides, quiet)
    from recdistill.retention.clean import clean

    found = clean(run, days=days, keep=keep, delete=delete)
    if not quiet:
        for folder in found["folders"]:
            print(f"{'removed' if delete else 'would go'}  {folder['bytes']:>14,} bytes  {folder['path']}")
        for number in found["versions"]:
            print(f"{'removed' if delete else 'would go'}  version {number}")
        for number, why in found["protected"].items():
            print(f"stays     version {number}: {why}")
    print(json.dumps(found))

"""The command that looks for a student under a budget: search."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from recdistill.cli.options import Config, Overrides, Quiet, open_config

search_commands = typer.Typer()


@search_commands.command()
def search(
    config: Config,
    overrides: Overrides = None,
    p99_ms: Annotated[float, typer.Option(min=1e-3, help="most that one request may take, on this machine")] = 5.0,
    megabytes: Annotated[float, typer.Option(min=1e-3, help="most that all files of the bundle may take")] = 10.0,
    trials: Annotated[int, typer.Option(min=1, help="how many students, those of earlier calls counted")] = 20,
    candidates: Annotated[int, typer.Option(min=1, help="rows of the request that is timed")] = 500,
    quiet: Quiet = False,
) -> None:
    """Students of many shapes on the cached teacher scores, under a budget; the best one that fits becomes a config."""
    settings = open_config(config, overrides, quiet)
    from recdistill.search.report import Budget
    from recdistill.search.study import search as find

    found = find(settings, Budget(p99_ms=p99_ms, megabytes=megabytes), trials, candidates)
    if not quiet:
        columns = ["trial", "auc", "p99_ms", "p99_ratio", "bytes", "width", "tower", "interaction", "quantise", "kind"]
        print(found.table[found.table["pareto"]][columns].to_string(index=False))
        print(f"all trials and the plot: {found.folder}")
    print(json.dumps({"config": str(found.config), "trials": len(found.table), **found.chosen}))

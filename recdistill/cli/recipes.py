"""The command line's catalogue: recdistill recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

recipe_commands = typer.Typer()

Folder = Annotated[Path, typer.Option(help="where recipes lie", show_default=True)]


@recipe_commands.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="one recipe or plug-in", show_default=False)] = None,
    folder: Folder = Path("configs/recipes"),
) -> None:
    """Recipes and the plug-ins that they and a teacher are made of, with paper, settings, needs; or one in full."""
    from recdistill.catalogue import detail, overview

    print(overview(folder) if name is None else detail(folder, name))

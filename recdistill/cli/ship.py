"""The command that writes a finished run's student in the form that another server reads: export-as."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recdistill.cli.options import Config, Overrides, Quiet, open_config

ship_commands = typer.Typer()


class Form(StrEnum):
    """What another server reads."""

    TRITON = "triton"
    PT2 = "pt2"
    MLFLOW = "mlflow"


@ship_commands.command("export-as")
def export_as(
    form: Annotated[Form, typer.Argument(help="triton, pt2 or mlflow", show_default=False)],
    config: Config,
    out: Annotated[Path, typer.Argument(help="a folder, replaced if it is such an export; pt2: a file")],
    overrides: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """The student that ships, as a Triton model repository, a torch.export program or an MLflow model."""
    settings = open_config(config, overrides, quiet)
    from recdistill.pipeline import run_all
    from recdistill.ship.forms import write_form

    print(write_form(settings, run_all(settings, until="export").folders, form.value, out))

"""What commands share: the config argument, its overrides, and how the package's messages reach the terminal."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recdistill.config.run import Run

Config = Annotated[Path, typer.Argument(help="a YAML file, such as configs/demo.yaml", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="section.field=value", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress, only the result")]


class _StandardError(logging.Handler):
    """Writes to standard error as it is at that moment, so that a live bar can keep its lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def open_config(config: Path, overrides: list[str] | None, quiet: bool = False) -> Run:
    from recdistill.config.load import load

    say(quiet)
    return load(config, overrides or [])


def say(quiet: bool) -> None:
    """The package's lines go to standard error, those of the libraries nowhere."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of the libraries; python -W shows them
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_StandardError()], force=True)
    logging.getLogger("recdistill").setLevel(logging.WARNING if quiet else logging.INFO)
    for noisy in ("torchrec", "torch", "alembic", "mlflow", "onnxscript", "onnx_ir"):
        logging.getLogger(noisy).setLevel(logging.ERROR)

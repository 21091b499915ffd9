"""What a person sees while it works: a live bar where there is a terminal, and one line per check in the log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

logger = logging.getLogger("recdistill")

curves = logging.getLogger("recdistill.curves")
"""Every check of a training, its title as message and itself as the record's `check`; for handlers, not for people."""
curves.setLevel(logging.INFO)
curves.propagate = False


class Bar:
    """Rows done, rows/s, loss and time left; says nothing where it has no Progress to draw on."""

    def __init__(self, progress: Progress | None, title: str, total_rows: int) -> None:
        self.progress = progress
        self.task = None if progress is None else progress.add_task(title, total=total_rows, loss="", speed="")

    def advance(self, num_rows: int, *, loss: float | None = None, rows_per_s: float | None = None) -> None:
        """num_rows more are done; loss and speed are shown from now on where given."""
        if self.progress is None or self.task is None:
            return
        shown = {} if loss is None else {"loss": f"loss {loss:.4f}"}
        shown |= {} if rows_per_s is None else {"speed": f"{rows_per_s:,.0f} rows/s"}
        self.progress.update(self.task, advance=num_rows, **shown)  # type: ignore[arg-type]


@contextmanager
def bar(title: str, total_rows: int) -> Iterator[Bar]:
    """A live bar on standard error; silent when quiet or without a terminal."""
    if not (sys.stderr.isatty() and logger.isEnabledFor(logging.INFO)):
        yield Bar(None, title, total_rows)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress, title, total_rows)

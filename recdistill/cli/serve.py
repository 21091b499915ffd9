"""The commands that put a bundle to use: serve, score-file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

serve_commands = typer.Typer()

Model = Annotated[str, typer.Argument(help="a bundle's folder, or models:/NAME@ALIAS, or models:/NAME/VERSION")]
Tracking = Annotated[str | None, typer.Option(help="the MLflow store of models:/..; else MLFLOW_TRACKING_URI")]


@serve_commands.command()
def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="off the loopback interface RECDISTILL_TOKEN must be set")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8080,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; else one a core")] = None,
    items: Annotated[Path | None, typer.Option(help="a Parquet file, a row an item")] = None,
    item_key: Annotated[str | None, typer.Option(help="its key column, where the bundle does not tell")] = None,
    shadow: Annotated[str | None, typer.Option(help="a challenger, given like the model")] = None,
    shadow_share: Annotated[float, typer.Option(min=0, max=1, help="of the requests that it scores too")] = 0.1,
    queue: Annotated[int, typer.Option(min=1, help="requests that may wait in a process; more get 503")] = 32,
    body_bytes: Annotated[int, typer.Option(min=1024, help="the most a body may hold")] = 1 << 20,
    candidates: Annotated[int, typer.Option(min=1, help="the most a request may hold")] = 2000,
    every: Annotated[float, typer.Option(min=0.1, help="seconds between two looks at the registry")] = 10.0,
    tracking_uri: Tracking = None,
    state: Annotated[Path | None, typer.Option(help="where fetched bundles stay; else the user's cache")] = None,
    log: Annotated[Path | None, typer.Option(help="a folder for scored requests, as `monitor` reads them")] = None,
    log_columns: Annotated[str, typer.Option(help="of the user, kept in the log, with commas between")] = "",
) -> None:
    """Serve a bundle over HTTP until SIGTERM; the line on standard output is its address."""
    from recdistill.serve.serving import Serving, start

    serving = Serving(
        model=model,
        shadow=shadow,
        items=items,
        item_key=item_key,
        shadow_share=shadow_share,
        queue=queue,
        body_bytes=body_bytes,
        candidates=candidates,
        every_s=every,
        uri=tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"),
        token=os.environ.get("RECDISTILL_TOKEN"),
        state=state,
        log=log,
        log_columns=tuple(name.strip() for name in log_columns.split(",") if name.strip()),
    )
    start(serving, host=host, port=port, workers=workers or os.cpu_count() or 1)


@serve_commands.command("score-file")
def score_file_command(
    model: Model,
    source: Annotated[Path, typer.Argument(help="a Parquet file or a folder of them", show_default=False)],
    out: Annotated[Path, typer.Argument(help="a Parquet file; whole or not at all", show_default=False)],
    tracking_uri: Tracking = None,
) -> None:
    """Score the rows of a Parquet file into another, which has all columns of the first and `score`."""
    from recdistill.score_file import score_file
    from recdistill.serve.serving import local_bundle

    with local_bundle(model, tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")) as folder:
        done = score_file(folder, source, out)
    print(f"{out}: {done.rows:,} rows, {done.rows_per_s:,.0f} rows/s")

"""The commands about logs: check, manifest, synth, import."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from recdistill.cli_config import Config, Overrides, open_config

data_commands = typer.Typer()


@data_commands.command()
def check(config: Config, overrides: Overrides = None) -> None:
    """Read config and data without writing anything; prints the windows, or every problem."""
    settings = open_config(config, overrides)
    from recdistill.data.prepare import look

    with TemporaryDirectory() as scratch:
        log, survey = look(settings, Path(scratch))
    found = survey.to_json()
    windows = found.pop("windows")
    for name, start, end in (
        ("train", "start", "valid"),
        ("valid", "valid", "test"),
        ("test", "test", "end"),
    ):
        begins, ends = (datetime.fromtimestamp(windows[at] / 1e6, UTC).isoformat(" ", "seconds") for at in (start, end))
        rows, positives = found[name]["rows"], found[name]["positives"]
        print(f"{name:5}  {begins} to {ends}  {rows:>12,} rows  {positives / rows:7.2%} positive")
    print(f"{len(log.files)} files, {log.num_rows:,} rows, fingerprint {log.fingerprint[:12]}")


@data_commands.command("manifest")
def manifest_command(
    config: Config,
    out: Annotated[Path, typer.Argument(help="a JSON file, for data.manifest", show_default=False)],
    overrides: Overrides = None,
) -> None:
    """Write down which files the config's log is, with their sha256, so that a run reads exactly those."""
    settings = open_config(config, overrides)
    from recdistill.data.listing import open_data
    from recdistill.files import write_json

    log = open_data(settings.data)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, log.to_json())
    print(f"{out}: {len(log.files)} files, {log.num_rows:,} rows, fingerprint {log.fingerprint[:12]}")


@data_commands.command()
def synth(
    folder: Annotated[Path, typer.Argument(help="where the log goes; replaced if it is a generated one")],
    rows: Annotated[int, typer.Option(min=1000)] = 240_000,
    users: Annotated[int, typer.Option(min=2)] = 2_000,
    items: Annotated[int, typer.Option(min=2)] = 500,
    days: Annotated[int, typer.Option(min=3)] = 20,
    seed: Annotated[int, typer.Option(min=0)] = 7,
) -> None:
    """Generate a log with a planted truth, as Parquet partitioned by day."""
    from recdistill.data.synth import World
    from recdistill.data.synth import synth as generate
    from recdistill.files import manifest
    from recdistill.problems import BadInput, problem

    about = manifest(folder) or {}
    if folder.exists() and about.get("made_by") != "recdistill synth":
        remedy = "give a folder that does not exist"
        raise BadInput(
            problem(str(folder), wanted="no folder, or a generated log", found="something else", remedy=remedy)
        )
    world = World(num_users=users, num_items=items, num_days=days, seed=seed)
    print(f"{folder}: {generate(folder, rows, world):,} rows of {users:,} users and {items:,} items over {days} days")


@data_commands.command("import")
def import_command(
    name: Annotated[str, typer.Argument(help="which log: see docs/import.md")],
    path: Annotated[Path, typer.Argument(help="what was downloaded: an archive, a file or a folder")],
    out: Annotated[Path, typer.Argument(help="where the log goes; replaced if it is an imported one")],
) -> None:
    """Turn a public log into partitioned Parquet and a config that is ready to run."""
    from recdistill.data.importers.find import CONFIG, import_log

    print(f"{out}: {import_log(name, path, out):,} rows; recdistill check {out / CONFIG}")

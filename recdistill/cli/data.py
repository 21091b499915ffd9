"""The commands about logs: check, contract, manifest, synth, import."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from recdistill.cli.options import Config, Overrides, open_config

data_commands = typer.Typer()


@data_commands.command()
def check(
    config: Config,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of tables")] = False,
) -> None:
    """Read config and data: a profile of every column, the windows, or all that breaks the contract; keeps nothing."""
    settings = open_config(config, overrides, quiet=as_json)
    from recdistill.data.inspect.check import check, scratch
    from recdistill.data.inspect.table import table
    from recdistill.problems import BadInput

    with scratch() as folder:
        found = check(settings, folder)
    if as_json:
        print(json.dumps(found.to_json()))
    else:
        print(table(found.profile))
        if found.survey is not None:
            _print_windows(found.survey.to_json())
        print(f"{len(found.log.files)} files, {found.log.num_rows:,} rows, fingerprint {found.log.fingerprint[:12]}")
        if found.num_bad:
            print(f"{found.num_bad:,} bad rows are left out ({found.num_bad / found.log.num_rows:.3%})")
    if found.problems:
        raise BadInput(found.problems)


def _print_windows(found: dict[str, Any]) -> None:
    windows = found.pop("windows")
    for name, start, end in (
        ("train", "start", "valid"),
        ("valid", "valid", "test"),
        ("test", "test", "end"),
    ):
        begins, ends = (datetime.fromtimestamp(windows[at] / 1e6, UTC).isoformat(" ", "seconds") for at in (start, end))
        rows, positives = found[name]["rows"], found[name]["positives"]
        print(f"{name:5}  {begins} to {ends}  {rows:>12,} rows  {positives / rows:7.2%} positive")


contract_commands = typer.Typer(no_args_is_help=True, help="The contract of a log.")
data_commands.add_typer(contract_commands, name="contract")


@contract_commands.callback()
def _contract() -> None:
    """The contract of a log."""


@contract_commands.command()
def infer(
    config: Config,
    overrides: Overrides = None,
    slack: Annotated[float, typer.Option(min=0, max=10, help="share by which bounds give way")] = 0.1,
) -> None:
    """Draft a `contract:` section for `data:` from what the log holds today, with the evidence in comments."""
    settings = open_config(config, overrides, quiet=True)
    from recdistill.data.inspect.check import scratch
    from recdistill.data.inspect.infer import infer

    with scratch() as folder:
        print(infer(settings, folder, slack), end="")


@data_commands.command("manifest")
def manifest_command(
    config: Config,
    out: Annotated[Path, typer.Argument(help="a JSON file, for data.manifest", show_default=False)],
    overrides: Overrides = None,
) -> None:
    """Write down which files the config's log is, with their sha256, so that a run reads exactly those."""
    settings = open_config(config, overrides)
    from recdistill.data.log.listing import open_data
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
    flip: Annotated[float, typer.Option(help="share of labels that are turned round")] = 0.0,
    position_bias: Annotated[float, typer.Option(help="one item in k^BIAS is examined at position k")] = 0.15,
    newborn: Annotated[float, typer.Option(help="share of items born after the first day")] = 0.0,
    base_drift: Annotated[float, typer.Option(help="by which all logits move over the days")] = 0.0,
    with_truth: Annotated[bool, typer.Option(help="also a column true_logit: never a feature")] = False,
    wide: Annotated[str, typer.Option(help="IDSxNUMBERS, as in 20x13: a wide log for benchmarks instead")] = "",
    cardinality: Annotated[int, typer.Option(help="of every id column of a wide log")] = 2_000,
    skew: Annotated[float, typer.Option(help="of the ids of a wide log; 0 is uniform")] = 0.0,
    strings: Annotated[bool, typer.Option(help="8 hex digits as the ids of a wide log")] = False,
    truth: Annotated[bool, typer.Option(help="print the ceiling of a log that is there; writes nothing")] = False,
) -> None:
    """Generate a log with a planted truth, as Parquet partitioned by day; prints the best that a model can reach."""
    from time import perf_counter

    from recdistill.data.synth import wide as synth_wide
    from recdistill.data.synth.files import read_truth
    from recdistill.data.synth.generate import World
    from recdistill.data.synth.generate import synth as generate
    from recdistill.data.synth.truth import ceiling_lines

    started = perf_counter()
    if wide and not truth:
        num_ids, num_numbers = synth_wide.shape(wide)
        written = synth_wide.wide(
            folder,
            rows,
            num_ids=num_ids,
            num_numbers=num_numbers,
            cardinality=cardinality,
            seed=seed,
            kind="string" if strings else "int64",
            skew=skew,
        )
        said = f"{num_ids} ids and {num_numbers} numbers, {cardinality:,} values an id"
    elif not truth:
        world = World(
            num_users=users,
            num_items=items,
            num_days=days,
            seed=seed,
            flip=flip,
            position_bias=position_bias,
            newborn=newborn,
            base_drift=base_drift,
        )
        written = generate(folder, rows, world, with_truth=with_truth)
        said = f"{users:,} users and {items:,} items over {days} days"
    if not truth:
        speed = written / (perf_counter() - started)
        print(f"{folder}: {written:,} rows of {said}, {speed:,.0f} rows/s")
    print("\n".join(ceiling_lines(read_truth(folder))))


@data_commands.command("import")
def import_command(
    name: Annotated[str, typer.Argument(help="which log: see docs/import.md")],
    path: Annotated[Path, typer.Argument(help="what was downloaded: an archive, a file or a folder")],
    out: Annotated[Path, typer.Argument(help="where the log goes; replaced if it is an imported one")],
) -> None:
    """Turn a public log into partitioned Parquet and a config that is ready to run."""
    from recdistill.data.importers.find import CONFIG, import_log

    print(f"{out}: {import_log(name, path, out):,} rows; recdistill check {out / CONFIG}")

"""The command plan: what a run would take, as a table and as one JSON object on the last line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from recdistill.cli.options import Config, Overrides, open_config

if TYPE_CHECKING:
    from recdistill.plan import Kind, Plan

plan_commands = typer.Typer()

Lines = Iterator[tuple[str, str]]


@plan_commands.command()
def plan(
    config: Config,
    overrides: Overrides = None,
    probe: Annotated[bool, typer.Option(help="time some real steps")] = True,
) -> None:
    """What the teacher would take: memory, operations, time and disk; keeps nothing. Last line: one JSON."""
    settings = open_config(config, overrides, quiet=True)
    from recdistill.plan import plan_run
    from recdistill.train.teachers.placement import shown

    found = plan_run(settings, probe=probe)
    lines = [*_of_data(found), *(line for kind in found.kinds for line in _of_kind(kind, found)), *_of_all(found)]
    width = max(len(title) for title, _ in lines)
    print("\n".join(f"{title:<{width}}  {value}" for title, value in lines))
    for kind in found.kinds:
        print(shown(kind.parts))
    print(json.dumps(found.to_json()))


def _of_data(found: Plan) -> Lines:
    rows = ", ".join(f"{name} {num:,}" for name, num in found.found.num_rows.items())
    yield "log", f"{found.log_rows:,} rows"
    yield "windows", f"{rows} ({'prepared' if found.is_prepared else 'counted in the log'})"


def _of_kind(kind: Kind, found: Plan) -> Lines:
    cost, largest = kind.cost, max(kind.rank_bytes)
    yield "teachers", f"{kind.num} of width {kind.settings.width}"
    for need in kind.needs:
        yield "", f"{need.what}: {_bytes(need.bytes)}"
    yield "  activations", f"{_bytes(cost.activation_bytes * kind.settings.batch_size)} a batch"
    yield "  dense layers", f"{cost.parameters:,} parameters"
    yield "  operations", f"{cost.training:,} a row in training, {cost.forward:,} in scoring"
    yield "  memory", f"{_bytes(largest)} on the fullest of {found.processes} process(es)"
    if kind.speed is not None:
        speed = kind.speed
        yield (
            "  speed",
            f"{speed.train_rows_per_s:,.0f} rows/s trained, {speed.score_rows_per_s:,.0f} scored, one process",
        )


def _of_all(found: Plan) -> Lines:
    if found.epoch_s is not None and found.whole_s is not None:
        yield (
            "time",
            f"{_time(found.epoch_s)} an epoch, {_time(found.whole_s)} in all with checks and scores, one process",
        )
    else:
        yield "time", "not probed"
    parts = ", ".join(f"{name} {_bytes(size)}" for name, size in found.disk_bytes.items() if size)
    yield "disk", f"{_bytes(sum(found.disk_bytes.values()))}: {parts}"
    yield "free here", ", ".join(f"{name} {_bytes(size)}" for name, size in found.free_bytes.items())


def _bytes(size: float) -> str:
    """
    >>> _bytes(1536), _bytes(3 * 2**30)
    ('1.5 KiB', '3.0 GiB')
    """
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"


def _time(seconds: float) -> str:
    """
    >>> _time(42.4), _time(3 * 3600 + 120)
    ('42 s', '3 h 2 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"

"""What prepare would make of a log, counted in two readings that keep nothing: rows of windows, sizes of tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.config.data import Data
from recdistill.config.features import IdColumn
from recdistill.config.run import Run
from recdistill.data.columns import Source, column, numbers, source_of
from recdistill.data.contract.outside import is_list
from recdistill.data.encoder import layout_of
from recdistill.data.inspect.counting import Counter
from recdistill.data.log.listing import Log
from recdistill.data.log.read import tables
from recdistill.data.log.values import microseconds, plain_ids
from recdistill.data.negatives.sampled import kept
from recdistill.data.raw import in_window, label_of
from recdistill.data.split import NOWHERE, SPLITS, windows
from recdistill.types import FIRST_KNOWN, Layout

EVENT = "event"  # the column of a log with drawn negatives that says which rows are events
_ROWS = 262_144
_EXACT = 1_000_000  # values of a column with counters of their own; above, their number is estimated

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """num_rows: of each window. num_events: rows that may be the past of others. layout: with tables as large as they
    would be, but for rows that the contract drops; within a few percent where a column has over a million values."""

    num_rows: dict[str, int]
    num_events: int
    layout: Layout


@dataclass(frozen=True, slots=True)
class _Size:
    """Stands for a table of which only the size matters."""

    num_rows: int


def estimate(run: Run, log: Log) -> Estimate:
    """Read the times, then times, labels and id columns. BadInput for empty windows."""
    cut = windows(lambda: _times(run.data, log), run.data.split)
    counters, data = _counters(run), run.data
    num_rows, num_events = np.zeros(len(SPLITS), dtype=np.int64), 0
    needed = [data.time, data.label.column, *_columns(counters)] + ([EVENT] if data.negatives is not None else [])
    for file, first, table in tables(log, list(dict.fromkeys(needed)), max_rows=_ROWS):
        time = microseconds(column(table, data.time), data.time_unit)
        inside = in_window(data, time) & (time < cut.end)
        which = np.where(inside, cut.which(time), NOWHERE)
        if data.keep_negatives < 1:
            row_id = file.first_row + first + np.arange(table.num_rows)
            label = label_of(data.label, column(table, data.label.column))
            which = np.where((which == 0) & ~kept(row_id, label, data.keep_negatives, run.seed), NOWHERE, which)
        happened = np.ones(len(which), dtype=bool) if data.negatives is None else numbers(column(table, EVENT)) > 0
        num_rows += np.bincount(which + 1, minlength=len(SPLITS) + 1)[1:]
        num_events += int((inside & happened).sum())
        _count(counters, table.filter(pa.array((which == 0) & happened)))
    return Estimate(
        num_rows=dict(zip(SPLITS, num_rows.tolist(), strict=True)),
        num_events=num_events,
        layout=replace(layout_of(run.features, _sizes(run, counters)), tasks=tuple(task.name for task in data.tasks)),
    )


def _columns(counters: Mapping[str, tuple[list[Source], Counter]]) -> list[str]:
    return [name for sources, _ in counters.values() for source in sources for name in source.columns]


def _times(data: Data, log: Log) -> Iterator[Ints]:
    for _, _, table in tables(log, [data.time], max_rows=_ROWS):
        time = microseconds(column(table, data.time), data.time_unit)
        yield time[in_window(data, time)]


def _counters(run: Run) -> dict[str, tuple[list[Source], Counter]]:
    """Per table that is a vocabulary: where its values come from, and what counts them."""
    found: dict[str, tuple[list[Source], Counter]] = {}
    for spec in _specs(run):
        if spec.hash_buckets is None and spec.edges is None and spec.quantiles is None:
            sources, _ = found.setdefault(spec.table or spec.title, ([], Counter(limit=_EXACT)))
            sources.append(source_of(spec, run.data))
    return found


def _specs(run: Run) -> list[IdColumn]:
    """All id features, and those outcomes of the history that are none."""
    features = run.features
    outcomes = features.history.outcomes if features.history else []
    known = {spec.title for spec in features.ids}
    return [*features.ids, *(IdColumn(column=name) for name in outcomes if name not in known)]


def _count(counters: Mapping[str, tuple[list[Source], Counter]], rows: pa.Table) -> None:
    if not rows.num_rows:
        return
    for sources, counter in counters.values():
        for source in sources:
            values = source.values(rows)
            flat = values.flatten() if is_list(values.type) else values
            counter.add(plain_ids(flat).drop_null())


def _sizes(run: Run, counters: Mapping[str, tuple[list[Source], Counter]]) -> dict[str, Any]:
    """Table -> its rows: as configured, or as many as it has values that come often enough."""
    specs = {spec.table or spec.title: spec for spec in _specs(run)}
    return {name: _Size(_num_rows(spec, counters.get(name))) for name, spec in specs.items()}


def _num_rows(spec: IdColumn, counted: tuple[list[Source], Counter] | None) -> int:
    if spec.hash_buckets is not None:
        return spec.hash_buckets + FIRST_KNOWN
    if counted is None:
        return (spec.quantiles or len(spec.edges or []) + 1) + FIRST_KNOWN
    counter = counted[1]
    often = int((counter.counts >= spec.min_count).sum()) if counter.exact else counter.num_distinct
    return min(often, spec.max_rows or often) + FIRST_KNOWN

"""What prepare would make of a log, counted in two readings that keep nothing: rows of windows, sizes of tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.config import Run
from recdistill.config_data import Data
from recdistill.config_features import IdColumn
from recdistill.data.columns import Source, column, source_of
from recdistill.data.contract.outside import is_list
from recdistill.data.encoder import layout_of
from recdistill.data.inspect.counting import Counter
from recdistill.data.log.listing import Log
from recdistill.data.log.read import tables
from recdistill.data.log.values import microseconds, plain_ids
from recdistill.data.raw import in_window, label_of
from recdistill.data.split import SPLITS, windows
from recdistill.types import FIRST_KNOWN, Layout

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
    num_rows, num_events, counters = np.zeros(len(SPLITS)), 0, _counters(run)
    data = run.data
    needed = [data.time, data.label.column, *(name for source, _ in counters.values() for name in source.columns)]
    for _, _, table in tables(log, list(dict.fromkeys(needed)), max_rows=_ROWS):
        time = microseconds(column(table, data.time), data.time_unit)
        which = np.where(in_window(data, time), cut.which(time), -1)
        num_events += int((in_window(data, time) & (time < cut.end)).sum())
        num_rows += _rows(data, table, which)
        _count(counters, table.filter(pa.array(which == 0)))
    return Estimate(
        num_rows={name: round(num) for name, num in zip(SPLITS, num_rows, strict=True)},
        num_events=num_events,
        layout=layout_of(run.features, _sizes(run, counters)),
    )


def _times(data: Data, log: Log) -> Iterator[Ints]:
    for _, _, table in tables(log, [data.time], max_rows=_ROWS):
        time = microseconds(column(table, data.time), data.time_unit)
        yield time[in_window(data, time)]


def _rows(data: Data, table: pa.Table, which: Ints) -> NDArray[np.float64]:
    """Rows of each window; of negatives that data.keep_negatives drops from the train window, how many are expected."""
    found = np.bincount(which + 1, minlength=len(SPLITS) + 1)[1:].astype(np.float64)
    if data.keep_negatives < 1:
        negative = int((label_of(data, column(table, data.label.column))[which == 0] == 0).sum())
        found[0] -= negative * (1 - data.keep_negatives)
    return found


def _counters(run: Run) -> dict[str, tuple[Source, Counter]]:
    """Per feature or outcome whose table is a vocabulary: where its values come from, and what counts them."""
    found = {}
    for spec in run.features.ids:
        if spec.hash_buckets is None and spec.edges is None and spec.quantiles is None:
            found[spec.title] = (source_of(spec, run.data), Counter(limit=_EXACT))
    for name in run.features.history.outcomes if run.features.history else []:
        found.setdefault(name, (Source(columns=(name,)), Counter(limit=_EXACT)))
    return found


def _count(counters: Mapping[str, tuple[Source, Counter]], rows: pa.Table) -> None:
    if not rows.num_rows:
        return
    for source, counter in counters.values():
        values = source.values(rows)
        flat = values.flatten() if is_list(values.type) else values
        counter.add(plain_ids(flat).drop_null())


def _sizes(run: Run, counters: Mapping[str, tuple[Source, Counter]]) -> dict[str, Any]:
    """Table -> its rows: as configured, or as many as its widest column has values that come often enough."""
    specs = {spec.title: spec for spec in run.features.ids}
    sizes: dict[str, int] = {}
    for title in [*specs, *(name for name in counters if name not in specs)]:
        spec = specs.get(title, IdColumn(column=title))
        name = spec.table or title
        sizes[name] = max(sizes.get(name, 0), _num_rows(spec, counters.get(title)))
    return {name: _Size(num) for name, num in sizes.items()}


def _num_rows(spec: IdColumn, counted: tuple[Source, Counter] | None) -> int:
    if spec.hash_buckets is not None:
        return spec.hash_buckets + FIRST_KNOWN
    if counted is None:
        return (spec.quantiles or len(spec.edges or []) + 1) + FIRST_KNOWN
    counter = counted[1]
    often = int((counter.counts >= spec.min_count).sum()) if counter.exact else counter.num_distinct
    return min(often, spec.max_rows or often) + FIRST_KNOWN

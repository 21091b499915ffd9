"""Raw requests as a server would get them, rebuilt from the log alone: rows with their users' past, as plain loops."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recdistill.config.features import Aggregate
from recdistill.config.run import Run
from recdistill.data.columns import HISTORY
from recdistill.data.encoder import Encoder
from recdistill.data.log.listing import Log
from recdistill.data.raw import RawRows, read_rows

Ints = NDArray[np.int64]
Row = dict[str, Any]
_KEPT = ("_time", "_row", "_label")


def raw_requests(run: Run, log: Log, row_ids: Ints, dropped: Ints, encoder: Encoder) -> pa.Table:
    """The rows of these numbers, in their order, with `history.<feature>` lists of earlier events and aggregates.

    dropped: numbers of rows that are left out of everything. It shares no code with the store's histories and
    aggregates, so that comparing the two is a test of both. Memory grows with the events of the keys asked for.
    """
    asked = {row["_row"]: row for row in _asked(run, log, dropped, row_ids)}
    schema = next(read_rows(run, log, dropped)).columns.schema
    rows = [asked[number] for number in row_ids.tolist()]
    table = pa.table({name: pa.array([row[name] for row in rows], schema.field(name).type) for name in schema.names})
    history = run.features.history
    if history is not None:
        per = [history.per or run.data.user]
        by_title = {spec.title: spec.column or spec.title for spec in run.features.ids}
        names = {title: by_title.get(title, title) for title in (history.item, *history.outcomes)}
        pasts = _pasts(run, log, dropped, rows, per, list(names.values()), history.delay)
        for title, name in names.items():
            lists = [[event[name] for event in past[-history.length :]] for past in pasts]
            table = table.append_column(HISTORY + title, pa.array(lists, pa.list_(schema.field(name).type)))
    for spec in run.features.aggregates:
        pasts = _pasts(run, log, dropped, rows, spec.by, [spec.of] if spec.of else [], spec.delay)
        values = [_aggregate(spec, row, past, encoder.means) for row, past in zip(rows, pasts, strict=True)]
        table = table.append_column(spec.title, pa.array(values, pa.float64()))
    return table.select([name for name in encoder.needed if name in table.schema.names])


def _asked(run: Run, log: Log, dropped: Ints, row_ids: Ints) -> Iterator[Row]:
    for rows in read_rows(run, log, dropped):
        places = np.flatnonzero(np.isin(rows.row_id, row_ids))
        yield from _dictionaries(rows, places, rows.columns.schema.names)


def _dictionaries(rows: RawRows, places: Ints, names: list[str]) -> Iterator[Row]:
    found = rows.columns.select(names).take(pa.array(places)).to_pylist()
    extra = zip(rows.time[places].tolist(), rows.row_id[places].tolist(), rows.label[places].tolist(), strict=True)
    for row, values in zip(found, extra, strict=True):
        yield row | dict(zip(_KEPT, values, strict=True))


def _keys(row: Row, by: list[str]) -> list[tuple[Any, ...]]:
    """The keys that a row has: all combinations of the values of its columns."""
    keys: list[tuple[Any, ...]] = [()]
    for name in by:
        values = row[name] if isinstance(row[name], list) else [row[name]]
        keys = [(*key, value) for key in keys for value in values if value is not None]
    return keys


def _pasts(
    run: Run, log: Log, dropped: Ints, rows: list[Row], by: list[str], names: list[str], delay: timedelta
) -> list[list[Row]]:
    """For each row the events with one of its keys that were known before its time, oldest first, as named columns.

    An event that shares several keys with the row stands there once for each.
    """
    asked = {key for row in rows for key in _keys(row, by)}
    events: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for batch in read_rows(run, log, dropped):
        columns = list(dict.fromkeys([*by, *names, *(["event"] if run.data.negatives else [])]))
        for row in _dictionaries(batch, _near(batch, by, asked), columns):
            if run.data.negatives is None or row["event"]:
                for key in _keys(row, by):
                    if key in asked:
                        events[key].append(row)
    for known in events.values():
        known.sort(key=lambda row: (row["_time"], row["_row"]))
    wait = delay // timedelta(microseconds=1)
    return [[e for key in _keys(row, by) for e in events[key] if e["_time"] < row["_time"] - wait] for row in rows]


def _near(batch: RawRows, by: list[str], asked: set[tuple[Any, ...]]) -> Ints:
    """Rows whose first key column holds one of the values asked for; all rows where that is a list."""
    values = batch.columns.column(by[0])
    if pa.types.is_nested(values.type) or pa.types.is_dictionary(values.type):
        return np.arange(len(batch.time))
    wanted = pa.array(list({key[0] for key in asked}), values.type)
    return np.flatnonzero(pc.is_in(values, value_set=wanted).to_numpy())


def _aggregate(spec: Aggregate, row: Row, past: list[Row], means: dict[str, float]) -> float | None:
    outcomes = [event["_label"] if spec.of is None else event[spec.of] for event in past]
    known = [outcome is not None and not math.isnan(outcome) for outcome in outcomes]
    if spec.value == "mean":
        values = [float(outcome) for outcome, is_known in zip(outcomes, known, strict=True) if is_known]
        return (sum(values) + spec.prior * means[spec.title]) / (len(values) + spec.prior)
    counted = [e for e, o, k in zip(past, outcomes, known, strict=True) if spec.of is None or (k and o != 0)]
    if spec.value == "count":
        return float(len(counted))
    return (row["_time"] - max(e["_time"] for e in counted)) / 1e6 if counted else None

"""The contract of a log, row by row: which rows of a table break which rule, those of the config and those implied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from recdistill.config.data import ColumnRule, Data
from recdistill.config.features import Features
from recdistill.config.run import Run
from recdistill.config.sections import epoch_us
from recdistill.data.contract.outside import (
    Places,
    floats,
    is_list,
    not_allowed,
    nulls,
    outside,
    outside_times,
    too_long,
    where,
)
from recdistill.data.log.listing import LogFile
from recdistill.data.log.partitions import span
from recdistill.data.log.values import microseconds

Found = Iterator[tuple[str, str, str, Places]]  # column, wanted, remedy, places

_FLOAT32 = float(np.finfo(np.float32).max)
_YEAR_1, _YEAR_9999 = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_DROP, _NULL = "mend or drop such rows", "mend or null such values"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """One rule, broken by some rows of a table. rows: their places in it, ascending."""

    column: str
    wanted: str
    remedy: str
    rows: Places


def broken_rows(run: Run, table: pa.Table, file: LogFile) -> list[Broken]:
    """Every row rule that some row breaks: those that the config implies and those of data.contract.

    The table holds at least `ruled_columns(run)`, of types that `check_columns` and `check_types` passed. A null breaks
    no rule but the one that forbids it.
    """
    found: dict[tuple[str, str], Broken] = {}
    for rules in (_present, _timely, _labelled, _finite, _agreed, _in_its_partition, _known_then):
        for column, wanted, remedy, rows in rules(run, table, file):
            if len(rows):
                found.setdefault((column, wanted), Broken(column=column, wanted=wanted, remedy=remedy, rows=rows))
    return list(found.values())


def ruled_columns(run: Run) -> list[str]:
    """The columns that `broken_rows` reads."""
    return list(
        dict.fromkeys(
            [
                *_identifying(run),
                *(task.column for task in run.data.tasks),
                *_numeric(run.features),
                *run.data.contract.columns,
                *run.data.contract.not_after,
            ]
        )
    )


def _identifying(run: Run) -> list[str]:
    """Columns without which a row has no place: a null there would put strangers together."""
    data, history = run.data, run.features.history
    names = [data.time, data.user, data.label.column, data.request.column, history.per if history else None]
    return list(dict.fromkeys(name for name in names if name is not None))


def _numeric(features: Features) -> list[str]:
    binned = [s.column for s in features.ids if s.column is not None and (s.edges or s.quantiles)]
    names = [s.column for s in features.dense] + binned + [s.of for s in features.aggregates if s.of is not None]
    return list(dict.fromkeys(names))


def _column(table: pa.Table, name: str) -> pa.Array:
    """As one array; dictionaries of strings stay, since each of their values is judged once."""
    found = table.column(name)
    if isinstance(found, pa.ChunkedArray):
        found = found.chunk(0) if found.num_chunks == 1 else found.combine_chunks()
    plain = pt.is_dictionary(found.type) and (found.dictionary.null_count or not pt.is_string(found.type.value_type))
    return found.dictionary_decode() if plain else found


def _present(run: Run, table: pa.Table, file: LogFile) -> Found:
    for name in _identifying(run):
        yield name, "a value", _DROP, nulls(_column(table, name))


def _timely(run: Run, table: pa.Table, file: LogFile) -> Found:
    """Other years than these cannot be named, and are how a wrong unit shows."""
    wanted, remedy = "a time of the years 1 to 9999", "mend the times, or data.time_unit"
    yield run.data.time, wanted, remedy, _times(run.data, table, _YEAR_1, _YEAR_9999)
    earliest = run.data.contract.earliest
    if earliest is not None:
        wanted = f"a time from {_show(earliest)} on"
        yield (
            run.data.time,
            wanted,
            "drop such rows, or lower data.contract.earliest",
            _times(run.data, table, earliest),
        )


def _times(data: Data, table: pa.Table, low: datetime | None, high: datetime | None = None) -> Places:
    bounds = [None if at is None else epoch_us(at) for at in (low, high)]
    return outside_times(_column(table, data.time), data.time_unit, *bounds)


def _show(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(" ")


def _labelled(run: Run, table: pa.Table, file: LogFile) -> Found:
    for setting, label in [("data.label", run.data.label), *((f"data.tasks.{t.name}", t) for t in run.data.tasks)]:
        values = _column(table, label.column)
        whole = pt.is_integer(values.type) or pt.is_boolean(values.type)
        if label.at_least is not None:
            if not whole:
                yield label.column, "a number", _DROP, where(values, np.isnan(floats(values)))
            continue
        if whole:
            rows = outside(values, 0, 1)
        else:
            numbers = floats(values)
            rows = where(values, (numbers != 0) & (numbers != 1))
        yield label.column, "a label of 0 or 1", f"mend such rows, or give {setting}.at_least", rows


def _finite(run: Run, table: pa.Table, file: LogFile) -> Found:
    for name in _numeric(run.features):
        values = _column(table, name)
        if not len(outside(values, -_FLOAT32, _FLOAT32)):
            continue
        numbers = floats(values)
        finite = np.isfinite(numbers)
        yield name, "a finite number", _NULL, where(values, ~finite)
        yield name, "a number that 32 bits can hold", _NULL, where(values, finite & (np.abs(numbers) > _FLOAT32))
    for spec in run.features.dense:
        if spec.transform == "log1p":
            values = _column(table, spec.column)
            rows = outside(values, 0, None)
            rows = rows[floats(values)[rows] < 0] if len(rows) else rows  # NaN has its own line
            yield spec.column, "a number >= 0 for log1p", "mend such values, or use transform: standardise", rows


def _agreed(run: Run, table: pa.Table, file: LogFile) -> Found:
    for name, rule in run.data.contract.columns.items():
        for wanted, rows in _ruled(rule, _column(table, name)):
            yield name, wanted, f"mend such rows, or data.contract.columns.{name}", rows


def _ruled(rule: ColumnRule, values: pa.Array) -> Iterator[tuple[str, Places]]:
    if not rule.nulls:
        yield "a value", nulls(values)
    if rule.min is not None or rule.max is not None:
        yield _between(rule.min, rule.max), outside(values, rule.min, rule.max)
    if rule.allowed is not None:
        shown = ", ".join(map(str, rule.allowed[:5])) + (", ..." if len(rule.allowed) > 5 else "")
        yield f"one of {shown}", not_allowed(values, rule.allowed)
    if rule.max_length is not None:
        what = "elements" if is_list(values.type) else "characters"
        yield f"at most {rule.max_length} {what}", too_long(values, rule.max_length)


def _between(low: float | None, high: float | None) -> str:
    if low is None:
        return f"a number <= {high:g}"
    return f"a number >= {low:g}" if high is None else f"a number from {low:g} to {high:g}"


def _in_its_partition(run: Run, table: pa.Table, file: LogFile) -> Found:
    partition = run.data.partition
    bounds = None if partition is None else span(partition, file.partition)
    if partition is None or bounds is None:
        return
    begin, end = bounds
    key = f"{partition.column}={file.partition[partition.column]}"
    early = f"at most {partition.lateness} before" if partition.lateness else "from the begin of"
    remedy = "move such rows, or raise data.partition.lateness"
    yield run.data.time, f"a time {early} {key} on", remedy, _times(run.data, table, begin - partition.lateness)
    remedy = "move such rows to their own partition, or mend data.partition"
    last = end - timedelta(microseconds=1)
    yield run.data.time, f"a time before the end of {key}", remedy, _times(run.data, table, None, last)


def _known_then(run: Run, table: pa.Table, file: LogFile) -> Found:
    """Values that were taken after their row's event."""
    if not run.data.contract.not_after:
        return
    unit, times = run.data.time_unit, _column(table, run.data.time)
    happened = microseconds(times.fill_null(0), unit)
    for name in run.data.contract.not_after:
        taken = _column(table, name)
        late = where(taken, microseconds(taken.fill_null(0), unit) > happened)
        late = late[~np.isin(late, nulls(times))]  # a row without a time has its own line
        yield name, "a time not after the event's", "take the values as they were before the event", late

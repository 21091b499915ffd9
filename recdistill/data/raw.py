"""Rows as plain arrays: when, who, in which request, with which label; and which columns a run reads as what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.config.data import Data, Label
from recdistill.config.features import IdColumn
from recdistill.config.run import Run
from recdistill.config.sections import epoch_us
from recdistill.data.columns import column
from recdistill.data.log.listing import Log
from recdistill.data.log.read import batches
from recdistill.data.log.values import family, microseconds, stable_key
from recdistill.problems import BadInput, problem

_PERIOD_US = {"hour": 3_600_000_000, "day": 86_400_000_000}
_MIX = np.int64(-7046029254386353131)  # odd, so that two periods of a user never share a key before hashing


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """n rows. time: UTC microseconds. user, request: stable keys. row_id: as numbered by who read them.

    tasks: [n, number of data.tasks] their labels, NaN where a row has none.
    """

    row_id: NDArray[np.int64]
    time: NDArray[np.int64]
    user: NDArray[np.int64]
    request: NDArray[np.int64]
    label: NDArray[np.float32]
    tasks: NDArray[np.float32]
    columns: pa.Table

    def take(self, places: NDArray[np.int64]) -> RawRows:
        """The rows at these places."""
        arrays = {n: getattr(self, n)[places] for n in ("row_id", "time", "user", "request", "label", "tasks")}
        return RawRows(columns=self.columns.take(pa.array(places)), **arrays)


def wanted_columns(run: Run) -> list[tuple[str, str]]:
    """(column, role) of all that the run reads; a column may have several roles. The roles are the keys of ROLES."""
    data, features = run.data, run.features
    roles = [(data.time, "time" if data.time_unit is None else "counted time"), (data.user, "id")]
    roles += [(label.column, "number") for label in (data.label, *data.tasks)] + (
        [(data.request.column, "id")] if data.request.column else []
    )
    roles += [(name, _id_role(spec)) for spec in features.ids for name in spec.columns]
    roles += [(spec.column, "number") for spec in features.dense]
    roles += [(key, "id") for key in features.keyed.values()]
    roles += [(spec.of, "number") for spec in features.aggregates if spec.of is not None]
    roles += [(name, "key") for spec in features.aggregates for name in spec.by]
    roles += [(name, "id") for name in data.contract.unique if name != data.time]
    roles += [(name, roles[0][1]) for name in data.contract.not_after]
    if data.negatives is not None:
        roles += [(name, "number") for name in ("event", "offset", "positive")]
    if features.history is None:
        return roles
    by_title = {spec.title: spec for spec in features.ids}
    for name in features.history.outcomes:
        roles += [(column, "outcome") for column in (by_title[name].columns if name in by_title else [name])]
    return roles + ([(features.history.per, "id")] if features.history.per else [])


def _id_role(spec: IdColumn) -> str:
    if spec.edges is not None or spec.quantiles is not None:
        return "number"
    return "id" if spec.max_values is None else "ids"


def check_columns(run: Run, log: Log) -> None:
    """BadInput with a line for every column that is missing or of a type that does not fit one of its roles."""
    lines: list[str] = []
    for name, role in wanted_columns(run):
        where = f"{log.source}: column {name}"
        wanted, fits, remedy = ROLES[role]
        if name not in log.types:
            found = f"only {', '.join(log.types)}"
            lines.append(problem(where, wanted="such a column", found=found, remedy="mend the config or the log"))
        elif not fits(log.types[name]):
            lines.append(problem(where, wanted=wanted, found=str(log.types[name]), remedy=remedy))
    if lines:
        raise BadInput(list(dict.fromkeys(lines)))


def _is_whole(kind: pa.DataType) -> bool:
    return pt.is_integer(kind) or pt.is_boolean(kind)


_RETYPE = "write the column with that type or use another one"
ROLES: dict[str, tuple[str, Callable[[pa.DataType], bool], str]] = {
    "id": ("strings or whole numbers", lambda kind: family(kind) == "id", _RETYPE),
    "ids": ("a list of strings or whole numbers", lambda kind: family(kind) == "ids", "drop max_values for a plain id"),
    "key": ("ids or a list of them", lambda kind: family(kind) in ("id", "ids"), _RETYPE),
    "outcome": ("numbers or strings", lambda kind: family(kind) in ("id", "number"), _RETYPE),
    "number": ("a number", lambda kind: family(kind) == "number" or _is_whole(kind), _RETYPE),
    "time": ("timestamps", lambda kind: family(kind) == "time", "write timestamps, or give data.time_unit"),
    "counted time": ("whole numbers", lambda kind: family(kind) == "time" or _is_whole(kind), "drop data.time_unit"),
}


def raw_rows(data: Data, table: pa.Table, row_id: NDArray[np.int64]) -> RawRows:
    """The rows of a table that obeys the contract."""
    time = microseconds(column(table, data.time), data.time_unit)
    user = stable_key(column(table, data.user))
    if data.request.column is not None:
        request = stable_key(column(table, data.request.column))
    else:
        assert data.request.user_every is not None
        period = time // _PERIOD_US[data.request.user_every]
        request = pd.util.hash_array(user + period * _MIX).view(np.int64)
    label = label_of(data.label, column(table, data.label.column))
    tasks = np.empty((len(label), len(data.tasks)), dtype=np.float32)
    for place, task in enumerate(data.tasks):
        tasks[:, place] = label_of(task, column(table, task.column))
    return RawRows(row_id=row_id, time=time, user=user, request=request, label=label, tasks=tasks, columns=table)


def label_of(label: Label, values: pa.Array) -> NDArray[np.float32]:
    """[n] labels, NaN for null; without a threshold, anything but 0 and 1 is left as it is, for the contract to see."""
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if label.at_least is None:
        return numbers.astype(np.float32)
    return np.where(np.isnan(numbers), np.nan, numbers >= label.at_least).astype(np.float32)


def in_window(data: Data, time: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[n] whether a row lies between data.start and data.end."""
    start, end = data_window(data)
    return (time >= start) & (time < end)


def data_window(data: Data) -> tuple[int, int]:
    """data.start and data.end in UTC microseconds; what is not given is beyond all times."""
    start, end = (None if at is None else epoch_us(at) for at in (data.start, data.end))
    return -(2**63) if start is None else start, 2**63 - 1 if end is None else end


def read_rows(run: Run, log: Log, dropped: NDArray[np.int64]) -> Iterator[RawRows]:
    """The data window's rows from the log itself, batch by batch, less those of the numbers in `dropped`."""
    columns = list(dict.fromkeys(name for name, _ in wanted_columns(run)))
    for file, first, batch in batches(log, columns):
        number = np.arange(first, first + batch.num_rows) + file.first_row
        kept = np.flatnonzero(~np.isin(number, dropped))
        rows = raw_rows(run.data, pa.Table.from_batches([batch]).take(pa.array(kept)), number[kept])
        yield rows.take(np.flatnonzero(in_window(run.data, rows.time)))

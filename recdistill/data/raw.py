"""A record batch's rows as plain arrays: when, who, in which request, with which label; and what makes a row bad."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.config import Run
from recdistill.config_data import Data
from recdistill.data.logs import Log, LogFile, batches, family, microseconds, stable_key
from recdistill.problems import BadInput, problem

_PERIOD_US = {"hour": 3_600_000_000, "day": 86_400_000_000}
_MIX = np.int64(-7046029254386353131)  # odd, so that two periods of a user never share a key before hashing


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """n rows of the data window. time: UTC microseconds. user, request: stable keys. row_id: number in the log."""

    row_id: NDArray[np.int64]
    time: NDArray[np.int64]
    user: NDArray[np.int64]
    request: NDArray[np.int64]
    label: NDArray[np.float32]
    columns: pa.RecordBatch


def wanted_columns(run: Run) -> list[tuple[str, str]]:
    """(column, role) of all that the run reads; a column may have several roles. The roles are the keys of ROLES."""
    data, features = run.data, run.features
    roles = [(data.time, "time" if data.time_unit is None else "counted time"), (data.user, "id")]
    roles += [(data.label.column, "number")] + ([(data.request.column, "id")] if data.request.column else [])
    roles += [(column, "id" if spec.max_values is None else "ids") for spec in features.ids for column in spec.columns]
    roles += [(spec.column, "number") for spec in features.dense]
    return roles + [(name, "outcome") for name in (features.history.outcomes if features.history else [])]


def check_columns(run: Run, log: Log) -> None:
    """BadInput with a line for every column that is missing or of a type that does not fit one of its roles."""
    lines: list[str] = []
    for column, role in wanted_columns(run):
        where = f"{log.source}: column {column}"
        wanted, fits, remedy = ROLES[role]
        if column not in log.types:
            found = f"only {', '.join(log.types)}"
            lines.append(problem(where, wanted="such a column", found=found, remedy="mend the config or the log"))
        elif not fits(log.types[column]):
            lines.append(problem(where, wanted=wanted, found=str(log.types[column]), remedy=remedy))
    if lines:
        raise BadInput(list(dict.fromkeys(lines)))


def _is_whole(kind: pa.DataType) -> bool:
    return pt.is_integer(kind) or pt.is_boolean(kind)


_RETYPE = "write the column with that type or use another one"
ROLES: dict[str, tuple[str, Callable[[pa.DataType], bool], str]] = {
    "id": ("strings or whole numbers", lambda kind: family(kind) == "id", _RETYPE),
    "ids": ("a list of strings or whole numbers", lambda kind: family(kind) == "ids", "drop max_values for a plain id"),
    "outcome": ("numbers or strings", lambda kind: family(kind) in ("id", "number"), _RETYPE),
    "number": ("a number", lambda kind: family(kind) == "number" or _is_whole(kind), _RETYPE),
    "time": ("timestamps", lambda kind: family(kind) == "time", "write timestamps, or give data.time_unit"),
    "counted time": ("whole numbers", lambda kind: family(kind) == "time" or _is_whole(kind), "drop data.time_unit"),
}


def read_rows(run: Run, log: Log) -> Iterator[RawRows]:
    """The data window's rows, batch by batch. BadInput at the first batch with a null, bad label or bad number."""
    dense = [spec.column for spec in run.features.dense]
    logs = [spec.column for spec in run.features.dense if spec.transform == "log1p"]
    for file, first, batch in batches(log, list(dict.fromkeys(column for column, _ in wanted_columns(run)))):
        _check_values(run.data, dense, logs, file, first, batch)
        rows = _rows(run.data, batch, file.first_row + first)
        inside = (rows.time >= _instant(run.data.start, -(2**63))) & (rows.time < _instant(run.data.end, 2**63 - 1))
        yield rows if inside.all() else _take(rows, inside)


def _instant(value: datetime | None, otherwise: int) -> int:
    return otherwise if value is None else round(value.timestamp() * 1e6)


def _take(rows: RawRows, inside: NDArray[np.bool_]) -> RawRows:
    names = ("row_id", "time", "user", "request", "label")
    return RawRows(columns=rows.columns.filter(pa.array(inside)), **{n: getattr(rows, n)[inside] for n in names})


def _rows(data: Data, batch: pa.RecordBatch, first_row: int) -> RawRows:
    time = microseconds(batch.column(data.time), data.time_unit)
    user = stable_key(batch.column(data.user))
    if data.request.column is not None:
        request = stable_key(batch.column(data.request.column))
    else:
        assert data.request.user_every is not None
        period = time // _PERIOD_US[data.request.user_every]
        request = pd.util.hash_array(user + period * _MIX).view(np.int64)
    return RawRows(
        row_id=np.arange(first_row, first_row + batch.num_rows),
        time=time,
        user=user,
        request=request,
        label=label_of(data, batch.column(data.label.column)),
        columns=batch,
    )


def label_of(data: Data, values: pa.Array) -> NDArray[np.float32]:
    """[n] labels; anything but 0 and 1 where no threshold is given is left as it is, for the check to see."""
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return (numbers if data.label.at_least is None else numbers >= data.label.at_least).astype(np.float32)


def _check_values(
    data: Data, dense: list[str], logs: list[str], file: LogFile, first: int, batch: pa.RecordBatch
) -> None:
    """One line per column with a bad value, naming the first such row."""
    lines = []
    for column in dict.fromkeys((data.time, data.user, data.label.column, data.request.column or data.user)):
        nulls = pc.is_null(batch.column(column))
        lines += _first_bad(file, first, column, batch.column(column), nulls, "a value", "drop such rows")
    label = batch.column(data.label.column).cast(pa.float64(), safe=False)
    if data.label.at_least is None:
        bad = pc.invert(pc.or_(pc.is_null(label), pc.is_in(label, value_set=pa.array([0.0, 1.0]))))
        wanted, remedy = "a label of 0 or 1", "give data.label.at_least"
    else:
        bad, wanted, remedy = pc.is_nan(label), "a number", "drop such rows"
    lines += _first_bad(file, first, data.label.column, label, bad, wanted, remedy)
    for column in dense:
        values = batch.column(column).cast(pa.float64(), safe=False)
        bad = pc.invert(pc.is_finite(values))
        lines += _first_bad(file, first, column, values, bad, "a finite number", "mend or null such values")
        if column in logs:
            wanted, remedy = "a number >= 0 for log1p", "use transform: standardise"
            lines += _first_bad(file, first, column, values, pc.less(values, 0), wanted, remedy)
    if lines:
        raise BadInput(lines)


def _first_bad(
    file: LogFile, first: int, column: str, values: pa.Array, bad: pa.Array, wanted: str, remedy: str
) -> list[str]:
    """A line for the first row that is bad; none where no row is. A null in `bad` is not bad."""
    place = pc.index(bad, True).as_py()
    if place < 0:
        return []
    value = values[place].as_py()
    where = f"{file.path}: row {first + place}: column {column}"
    return [problem(where, wanted=wanted, found="null" if value is None else str(value), remedy=remedy)]

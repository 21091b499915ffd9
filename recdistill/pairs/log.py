"""A log of positives: its columns checked, its rows as users, items and times, each pair once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recdistill.config.data import Contract, Data
from recdistill.config.run import Run
from recdistill.data.log.listing import Log, open_data
from recdistill.data.log.read import batches
from recdistill.data.log.values import family, microseconds, plain_ids
from recdistill.data.raw import in_window, label_of
from recdistill.data.split import SPLITS
from recdistill.problems import BadInput, problem

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Positives:
    """N pairs in the order of the log. user, item: [N] numbers from 0 on, of the values in user_values, item_values.

    time: [N] UTC microseconds, 0 without a time. row_id: [N] number of the row in the log. part: [N] place in SPLITS of
    the row's file where windows are given as files, else 0.
    """

    user: Ints
    item: Ints
    user_values: pa.Array
    item_values: pa.Array
    time: Ints
    row_id: Ints
    part: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.user)


def open_positives(run: Run) -> Log:
    """The log that the run reads. BadInput for columns that are not there or of another type, all at once."""
    data = run.data
    lines = _unfit(data)
    try:
        log = open_data(data, columns_of(data))
    except BadInput as error:
        raise BadInput([*lines, *error.problems]) from None
    wanted = {data.user: ("id", "ids"), _item(data): ("id", "ids")}
    wanted |= {data.label.column: ("id", "number")} if data.label.column else {}
    wanted |= {data.time: ("time", "id")} if data.time else {}
    for name, families in wanted.items():
        kind = log.types.get(name)
        if kind is None or family(kind) not in families or family(kind) == "ids":
            what = "ids" if families[0] == "id" else families[0]
            found = f"type {kind}" if kind else f"only {', '.join(log.types)}"
            remedy = "mend the config or the log"
            lines.append(problem(f"{log.source}: column {name}", wanted=what, found=found, remedy=remedy))
    lines += _without_file(data, log)
    if lines:
        raise BadInput(lines)
    return log


def columns_of(data: Data) -> list[str]:
    """The columns that a run of pairs reads."""
    return list(dict.fromkeys(name for name in (data.user, _item(data), data.time, data.label.column) if name))


def _item(data: Data) -> str:
    assert data.pairs is not None
    return data.pairs.item


def _unfit(data: Data) -> list[str]:
    """Settings of the other shape, which would be passed over in silence."""
    given: Mapping[str, bool] = {
        "negatives": data.negatives is not None,
        "tasks": bool(data.tasks),
        "contract": data.contract != Contract(),
        "keep_negatives": data.keep_negatives != 1.0,
    }
    remedy = "drop it: pairs have no rows with labels"
    lines = [
        problem(f"data.{name}", wanted="nothing beside data.pairs", found="settings", remedy=remedy)
        for name, is_given in given.items()
        if is_given
    ]
    assert data.pairs is not None
    if data.pairs.split == "time" and not data.time:
        remedy = "name the column, or use split: ratio"
        lines.append(problem("data.time", wanted="a time beside split: time", found="none", remedy=remedy))
    return lines


def _without_file(data: Data, log: Log) -> list[str]:
    """A line per window that no file of the log belongs to, and per file that belongs to none."""
    assert data.pairs is not None
    if data.pairs.files is None:
        return []
    patterns = data.pairs.files.model_dump()
    names = [file.name for file in log.files]
    remedy = f"there are {', '.join(names[:5])}"
    lines = [
        problem(f"data.pairs.files.{window}", wanted="files of the log", found=repr(pattern), remedy=remedy)
        for window, pattern in patterns.items()
        if not any(fnmatch(name, pattern) for name in names)
    ]
    remedy = "move it away, or mend the patterns"
    return lines + [
        problem(f"{log.source}: {name}", wanted="a file of one window", found="another", remedy=remedy)
        for name in names
        if sum(fnmatch(name, pattern) for pattern in patterns.values()) != 1
    ]


def read_positives(run: Run, log: Log) -> Positives:
    """The positives of the data window, each pair once. BadInput for rows without a user or an item."""
    data, found = run.data, []
    for file, first, batch in batches(log, columns_of(data)):
        row_id = np.arange(first, first + batch.num_rows) + file.first_row
        time = microseconds(batch.column(data.time), data.time_unit) if data.time else np.zeros(len(row_id), np.int64)
        label = label_of(data.label, batch.column(data.label.column)) if data.label.column else np.ones(len(row_id))
        kept = np.flatnonzero((label > 0) & (in_window(data, time) if data.time else True))
        part = np.full(len(kept), _part(data, file.name), dtype=np.int8)
        values = (plain_ids(batch.column(name)).take(pa.array(kept)) for name in (data.user, _item(data)))
        found.append((*values, time[kept], row_id[kept], part))
    users, items, times, row_ids, parts = zip(*found, strict=True) if found else ((), (), (), (), ())
    user, item = _whole(data.user, users, log), _whole(_item(data), items, log)
    return _once(user, item, np.concatenate(times), np.concatenate(row_ids), np.concatenate(parts))


def _part(data: Data, name: str) -> int:
    assert data.pairs is not None
    files = data.pairs.files
    return 0 if files is None else next(n for n, w in enumerate(SPLITS) if fnmatch(name, getattr(files, w)))


def _whole(name: str, chunks: Any, log: Log) -> pa.DictionaryArray:
    """The values as numbers and a dictionary of all values, ascending."""
    values = pa.chunked_array(chunks) if chunks else pa.chunked_array([pa.array([], pa.int64())])
    if values.null_count:
        found, remedy = f"{values.null_count} rows without", "leave them out"
        raise BadInput(problem(f"{log.source}: column {name}", wanted="a value", found=found, remedy=remedy))
    if not len(values):
        remedy = "mend data.label or the window"
        raise BadInput(problem(log.source, wanted="positives", found="none", remedy=remedy))
    known = values.unique().sort()
    return pa.DictionaryArray.from_arrays(pc.index_in(values, value_set=known).combine_chunks(), known)


def _once(user: Any, item: Any, time: Ints, row_id: Ints, part: NDArray[np.int8]) -> Positives:
    """Each pair at its first time; with windows as files, in the earliest of them."""
    numbers = [column.indices.to_numpy().astype(np.int64) for column in (user, item)]
    order = np.lexsort((row_id, time, part))
    key = (numbers[0] * len(item.dictionary) + numbers[1])[order]
    first = np.sort(order[np.unique(key, return_index=True)[1]])
    return Positives(
        user=numbers[0][first],
        item=numbers[1][first],
        user_values=user.dictionary,
        item_values=item.dictionary,
        time=time[first],
        row_id=row_id[first],
        part=part[first],
    )

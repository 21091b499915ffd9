"""Raw requests as a server would get them, rebuilt from the log alone: rows with their users' past events as lists."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recdistill.config import Run
from recdistill.data.encoder import HISTORY
from recdistill.data.logs import Log
from recdistill.data.raw import read_rows


def raw_requests(run: Run, log: Log, row_ids: NDArray[np.int64]) -> pa.Table:
    """The rows of these numbers, in their order, with `history.<column>` lists of the same user's earlier events.

    It shares no code with the store's histories, so that comparing the two is a test of both. Memory grows with the
    events of the users asked for.
    """
    wanted = pa.array(row_ids)
    users = pa.array(np.unique(np.concatenate([_users_of(run, log, wanted), np.empty(0, dtype=np.int64)])))
    parts = []
    for rows in read_rows(run, log):
        mine = pc.is_in(pa.array(rows.user), value_set=users)
        keys = {"_user": rows.user, "_time": rows.time, "_row": rows.row_id}
        table = pa.Table.from_batches([rows.columns])
        for name, values in keys.items():
            table = table.append_column(name, pa.array(values))
        parts.append(table.filter(mine))
    table = pa.concat_tables(parts).sort_by([("_user", "ascending"), ("_time", "ascending"), ("_row", "ascending")])
    place = pc.index_in(wanted, value_set=table.column("_row").combine_chunks()).to_numpy(zero_copy_only=False)
    asked = table.take(pa.array(place))
    history = run.features.history
    if history is not None:
        pasts = _pasts(table, place, history.length)
        for column in dict.fromkeys([history.item, *history.outcomes]):
            values = table.column(column).to_pylist()
            lists = pa.array(
                [[values[i] for i in past] for past in pasts], type=pa.list_(table.schema.field(column).type)
            )
            asked = asked.append_column(HISTORY + column, lists)
    return asked.drop_columns(["_user", "_time", "_row"])


def _users_of(run: Run, log: Log, wanted: pa.Array) -> NDArray[np.int64]:
    found = [
        rows.user[pc.is_in(pa.array(rows.row_id), value_set=wanted).to_numpy(False)] for rows in read_rows(run, log)
    ]
    return np.concatenate(found)


def _pasts(table: pa.Table, place: NDArray[np.int64], length: int) -> list[list[int]]:
    """For each place, the places of the last `length` events of the same user of earlier instants, oldest first."""
    users, times = table.column("_user").to_pylist(), table.column("_time").to_pylist()
    of_user: dict[int, list[int]] = defaultdict(list)
    for i, user in enumerate(users):
        of_user[user].append(i)
    return [[i for i in of_user[users[p]] if times[i] < times[p]][-length:] for p in place]

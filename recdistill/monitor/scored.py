"""Scored rows and their labels: what the server logged or score-file wrote, joined with what came to be known later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from recdistill.config.run import Run
from recdistill.data.log.values import microseconds
from recdistill.problems import BadInput, problem

TIME, REQUEST, USER, KEY, SCORE, MODEL, LABEL = "time", "request", "user", "key", "score", "model", "label"
_CAME = "came"  # when a label did


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The columns in files: what the server's log calls request, user and time, a log calls as the config says."""

    time: str
    request: str
    user: str
    key: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """rows: time (microseconds), request, user, key, score, model, the slices' columns, and label (0, 1, null: none).

    repeated: scored rows of a request and key that were there before. late: labels that came too late to be used.
    """

    rows: pa.Table
    repeated: int
    late: int


def names_of(run: Run) -> Names:
    """BadInput where the config does not say which column tells candidates apart."""
    key = run.monitor.key or (None if run.features.history is None else run.features.history.item)
    if key is None:
        remedy = "set it to the column of the item"
        raise BadInput(
            problem("monitor.key", wanted="the column that tells candidates apart", found="none", remedy=remedy)
        )
    request = run.data.request.column or REQUEST
    return Names(time=run.data.time, request=request, user=run.data.user, key=key, label=run.data.label.column)


def read_scored(run: Run, source: Path, since: int) -> pa.Table:
    """Scored rows from the instant `since` (microseconds) on, a row a candidate; columns as `Joined.rows`, no label.

    source: a Parquet file or a folder of them; the server's log (lists `items` and `scores`, a row a request), or rows
    as the config names them with `score`, and maybe `model`, as score-file writes them.
    """
    names, slices = names_of(run), run.monitor.slices
    if _is_log(source):
        table = _flat(_read(source, [TIME, REQUEST, "items", "scores", MODEL, *slices], [names.user]), since)
        names = Names(time=TIME, request=REQUEST, user=names.user, key=KEY, label=names.label)
    else:
        table = _read(source, [names.time, names.request, names.key, SCORE, *slices], [names.user, MODEL])
    time = microseconds(_one(table, names.time), run.data.time_unit)
    table = table.filter(pa.array(time >= since))
    request = _text(table, names.request)
    columns = {
        TIME: pa.array(time[time >= since]),
        REQUEST: request,
        USER: _text(table, names.user) if names.user in table.schema.names else request,
        KEY: _text(table, names.key),
        SCORE: _one(table, SCORE).cast(pa.float64()),
        MODEL: _text(table, MODEL) if MODEL in table.schema.names else pa.array(["-"] * len(table)),
    }
    columns |= {_slice_column(name): _text(table, name) for name in run.monitor.slices}
    return pa.table(columns)


def slice_values(rows: pa.Table, name: str) -> pa.Array:
    """[n] a slice column's values as texts."""
    return _one(rows, _slice_column(name))


def read_labels(run: Run, source: Path) -> pa.Table:
    """request, key, label (0 or 1) and, where the file has the config's time column, time (microseconds)."""
    names = names_of(run)
    table = _read(source, [names.request, names.key, names.label], [names.time])
    value = _one(table, names.label).cast(pa.float64())
    least = run.data.label.at_least
    found = value if least is None else pc.greater_equal(value, least).cast(pa.float64())
    columns = {REQUEST: _text(table, names.request), KEY: _text(table, names.key), LABEL: found}
    if names.time in table.schema.names:
        columns[TIME] = pa.array(microseconds(_one(table, names.time), run.data.time_unit))
    kept = pa.table(columns)
    return kept.filter(pc.is_valid(kept.column(LABEL)))


def join(scored: pa.Table, labels: pa.Table, delay: timedelta, unlabelled: float | None) -> Joined:
    """Each scored row once, with the greatest label that came for its request and key within `delay` of it.

    unlabelled: the label of a row without one; None leaves it null.
    """
    first = scored.append_column("place", pa.array(np.arange(len(scored))))
    once = first.group_by([REQUEST, KEY], use_threads=False).aggregate([("place", "min")])
    scored = scored.take(pa.array(np.sort(once.column("place_min").to_numpy())))
    scored = scored.append_column("place", pa.array(np.arange(len(scored))))
    came = labels.rename_columns([_CAME if name == TIME else name for name in labels.schema.names])
    both = scored.select([REQUEST, KEY, TIME, "place"]).join(came, [REQUEST, KEY], join_type="inner")
    num_late = 0
    if _CAME in both.schema.names:
        on_time = pc.less_equal(pc.subtract(both.column(_CAME), both.column(TIME)), delay // timedelta(microseconds=1))
        num_late = int(pc.sum(pc.invert(on_time)).as_py() or 0)
        both = both.filter(on_time)
    label = np.full(len(scored), np.nan if unlabelled is None else unlabelled)
    place = both.column("place").to_numpy()
    label[place] = -np.inf
    np.maximum.at(label, place, both.column(LABEL).to_numpy())
    rows = scored.drop_columns(["place"]).append_column(LABEL, pa.array(label, from_pandas=True))
    return Joined(rows=rows, repeated=len(first) - len(scored), late=num_late)


def _slice_column(name: str) -> str:
    return f"slice {name}"


def _is_log(source: Path) -> bool:
    return {"items", "scores"} <= set(_open(source).schema.names)


def _open(source: Path) -> ds.Dataset:
    """BadInput for what cannot be read."""
    try:
        return ds.dataset(source, format="parquet")
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(source, error) from None


def _unreadable(source: Path, error: Exception) -> BadInput:
    said = (str(error).splitlines() or ["an error"])[0][:200]
    remedy = "give a Parquet file or a folder of them"
    return BadInput(problem(str(source), wanted="readable Parquet", found=said, remedy=remedy))


def _read(source: Path, needed: Sequence[str], welcome: Sequence[str]) -> pa.Table:
    """The columns that are needed, and of the others those that there are. BadInput for each that is missing."""
    found = _open(source)
    have = found.schema.names
    remedy = f"write it into the file, or mend `data` and `monitor`; there are {', '.join(have) or 'none'}"
    lines = [
        problem(str(source), wanted=f"column {name}", found="none", remedy=remedy)
        for name in dict.fromkeys(needed)
        if name not in have
    ]
    if lines:
        raise BadInput(lines)
    try:
        return found.to_table(columns=list(dict.fromkeys([*needed, *(name for name in welcome if name in have)])))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(source, error) from None


def _flat(log: pa.Table, since: int) -> pa.Table:
    """The server's log, a row a candidate."""
    log = log.filter(pa.array(microseconds(_one(log, TIME), None) >= since))
    rows = pc.list_parent_indices(_one(log, "items"))
    found = log.drop_columns(["items", "scores"]).take(rows)
    return found.append_column(KEY, pc.list_flatten(_one(log, "items"))).append_column(
        SCORE, pc.list_flatten(_one(log, "scores"))
    )


def _one(table: pa.Table, name: str) -> pa.Array:
    found = table.column(name).combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)


def _text(table: pa.Table, name: str) -> pa.Array:
    found = _one(table, name)
    return (
        found.dictionary_decode().cast(pa.string()) if pa.types.is_dictionary(found.type) else found.cast(pa.string())
    )

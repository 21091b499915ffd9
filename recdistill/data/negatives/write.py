"""The sampled log as Parquet: every positive followed by its negatives, with labels and the shifts of their scores."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recdistill.config.data import Data, Negatives
from recdistill.data.columns import column
from recdistill.data.log.listing import Log
from recdistill.data.log.read import batches
from recdistill.data.negatives.catalogue import POSITIVE, Catalogue, Ints, Positives, Survey, positives, written
from recdistill.data.negatives.check import ADDED
from recdistill.data.negatives.draw import Drawn, Draws
from recdistill.problems import BadInput, problem

NOTHING_KNOWN = 30.0  # a positive's shift where nothing could stand against it: its loss, log(1 + exp(-30 - s)), is 0
COUNTED = ("positives", "negatives", "dropped", "nothing_known", "unusable")
_ROWS_AT_ONCE = 262_144

Flags = NDArray[np.bool_]


def write_sampled(source: Log, out: Path, data: Data, seed: int) -> dict[str, int]:
    """Write the sampled log under `out`, with the files of the source; returns `items` and the counts of COUNTED.

    Every row of the source that lies in the data window is followed by its negatives: copies with another item, drawn
    as `Draws` says, and with `item_columns` as they were at that item's last event before the hour. Added to both:

    - sampled_label and event: 1 for a row of the source, 0 for a negative
    - positive: the number of the row in the source, the same for its negatives
    - offset: -log r, to be added to the score in training; 0 without correction

    r(x) = per_positive * p(x) is how often a positive is expected to meet item x as a negative, at its hour. Among the
    sampled rows the odds of x are those in the whole catalogue, where every positive meets every item once, divided by
    r(x): logit = score - log r(x), whatever the label. An item that was not known yet counts as the rarest known one.
    Before the first hour's end nothing is known: its positives have no negatives and an offset that ends their loss.

    Two passes, batch by batch. The result depends on the log, the settings and the seed alone. BadInput where there are
    too few items.
    """
    assert data.negatives is not None
    catalogue = survey(source, data)
    draws = Draws(catalogue, data.negatives, seed)
    found = Counter(dict.fromkeys(COUNTED, 0))
    columns = [name for name in source.types if name not in source.constants]
    for name, pieces in groupby(batches(source, columns), key=lambda piece: piece[0].name):
        with _Writer(_path(out, name)) as writer:
            for file, first, batch in pieces:
                for table, row in _cut(batch, file.first_row + first, data.negatives):
                    writer.add(_sampled(data, catalogue, draws, table, row, found))
    for name in [file.name for file in source.files if not file.num_rows]:  # for the contract to see them
        empty = pa.schema([(column, source.types[column]) for column in columns] + list(ADDED)).empty_table()
        _path(out, name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(empty, _path(out, name))
    return {"items": len(catalogue.items), **found}


def _path(out: Path, name: str) -> Path:
    """The file of a source's file; other formats become Parquet."""
    return out / (name if name.endswith(".parquet") else f"{name}.parquet")


def survey(source: Log, data: Data) -> Catalogue:
    """The catalogue of the log. BadInput where it has too few items for the negatives asked for."""
    assert data.negatives is not None
    values = [data.negatives.item, *data.negatives.item_columns]
    by = [] if data.request.column in (None, POSITIVE) else [data.request.column]
    if not source.num_rows:
        raise BadInput(problem(source.source, wanted="a log with rows", found="none", remedy="mend data.source"))
    seen = Survey()
    for file, first, batch in batches(source, list(dict.fromkeys([data.time, data.user, *by, *values]))):
        table = pa.Table.from_batches([batch])
        rows = positives(data, table, file.first_row + first)
        seen.add(rows, table.select(values).take(pa.array(rows.place)))
    catalogue = seen.finish(votes=data.negatives.by == "session")
    if lines := _too_few(f"{source.source}: column {values[0]}", catalogue, data.negatives):
        raise BadInput(lines)
    return catalogue


def _too_few(where: str, catalogue: Catalogue, negatives: Negatives) -> list[str]:
    num = len(catalogue.items)
    lines = []
    if num <= negatives.per_positive:
        wanted = f"more than data.negatives.per_positive = {negatives.per_positive} items"
        remedy = "lower it, widen the data window or mend the log"
        lines.append(problem(where, wanted=wanted, found=str(num), remedy=remedy))
    if 0 < num == catalogue.largest:
        remedy = "mend data.request: what was ranked together, or the column positive for each event by itself"
        found = f"a request with all {num}"
        lines.append(problem(where, wanted="an item outside of every request", found=found, remedy=remedy))
    return lines


def _cut(batch: pa.RecordBatch, first: int, negatives: Negatives) -> list[tuple[pa.Table, int]]:
    """(rows, number of the first) in pieces that stay small with their negatives."""
    table = pa.Table.from_batches([batch])
    step = max(1, _ROWS_AT_ONCE // (1 + negatives.per_positive))
    return [(table.slice(start, step), first + start) for start in range(0, len(table), step)]


def _sampled(
    data: Data, catalogue: Catalogue, draws: Draws, table: pa.Table, first: int, found: Counter[str]
) -> pa.Table:
    """The rows in the window, each followed by its negatives. first: the number of the table's first row."""
    assert data.negatives is not None
    rows, inside = positives(data, table, first), written(data, table)
    drawn = draws(rows)
    shape = (len(table), 1 + data.negatives.per_positive)
    code, rate, hour = np.full(shape, -1), np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
    code[rows.place, 1:] = drawn.code
    rate[rows.place] = np.concatenate([drawn.own_rate[:, None], drawn.rate], axis=1)
    hour[rows.place] = rows.hour[:, None]
    there = code >= 0
    there[:, 0] = inside
    row, slot = np.nonzero(there)
    negative = slot > 0
    entry = catalogue.entry_before(code[there][negative], hour[there][negative])
    shift = np.nan_to_num(-np.log(rate[there]), nan=NOTHING_KNOWN)
    added = {
        "sampled_label": ~negative,
        "event": ~negative,
        POSITIVE: row + first,
        "offset": shift if data.negatives.correction == "log_q" else np.zeros(len(row)),
    }
    _count(found, rows, drawn, inside, negative)
    table = _with_items(table, row, negative, catalogue.values.take(pa.array(entry)))
    for name, kind in zip(ADDED.names, ADDED.types, strict=True):
        table = table.append_column(name, pa.array(added[name].astype(kind.to_pandas_dtype()), kind))
    return table


def _with_items(table: pa.Table, row: Ints, negative: Flags, items: pa.Table) -> pa.Table:
    """The table's rows of these numbers, with the items' columns, in their order, where a row is negative."""
    source = np.where(negative, len(table) + np.cumsum(negative) - 1, row)
    out = table.take(pa.array(row))
    for name in items.column_names:
        both = pa.chunked_array([column(table, name), column(items, name)])
        out = out.set_column(out.schema.get_field_index(name), table.schema.field(name), both.take(pa.array(source)))
    return out


def _count(found: Counter[str], rows: Positives, drawn: Drawn, inside: Flags, negative: Flags) -> None:
    known = ~np.isnan(drawn.own_rate)
    found["positives"] += len(rows.row)
    found["negatives"] += int(negative.sum())
    found["dropped"] += int((drawn.code[known] < 0).sum())
    found["nothing_known"] += int((~known).sum())
    found["unusable"] += int(inside.sum()) - len(rows.row)


class _Writer:
    """One file, begun with its first rows; none where there are none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parquet: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> None:
        if not len(table):
            return
        if self._parquet is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._parquet = pq.ParquetWriter(self._path, table.schema, write_page_checksum=True)
        self._parquet.write_table(table)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._parquet is not None:
            self._parquet.close()

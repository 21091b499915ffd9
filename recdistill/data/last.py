"""What the bundle will serve by a key: the last values that the train window holds of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from recdistill.config.run import Run
from recdistill.data.columns import Source, source_of
from recdistill.data.plan import source_key
from recdistill.data.served import Served
from recdistill.data.view import Slice, View


def last_served(run: Run, view: View) -> dict[str, Served]:
    """The last value that the train window holds of every column that the bundle serves, by key."""
    wanted: dict[str, dict[str, Source | None]] = {}
    for spec in run.features.ids:
        if spec.key is not None and spec.column is not None:
            binned = spec.edges is not None or spec.quantiles is not None
            wanted.setdefault(spec.key, {})[spec.column] = None if binned else source_of(spec, run.data)
    for number in run.features.dense:
        if number.key is not None:
            wanted.setdefault(number.key, {})[number.column] = None
    found: dict[str, Served] = {}
    for key, columns in wanted.items():
        table = pa.concat_tables([_last(piece, key, columns) for piece in view.slices() if piece.train.any()])
        line = pa.array(np.arange(table.num_rows))
        newest = table.select(["key"]).append_column("line", line).group_by("key").aggregate([("line", "max")])
        found[key] = Served(key=key, table=table.take(newest.column("line_max")).sort_by("key").combine_chunks())
    return found


def _last(piece: Slice, key: str, columns: Mapping[str, Source | None]) -> pa.Table:
    """Each key of a slice's train rows, with the columns of the last row that has it."""
    by = source_key(Source(columns=(key,)))
    (codes,) = (piece.of(code) for code in piece.segment.codes(by))
    rows = np.flatnonzero(piece.train & (codes >= 0))
    last = np.full(len(piece.segment.values(by)), -1, dtype=np.int64)
    np.maximum.at(last, codes[rows], rows)
    kept = np.flatnonzero(last >= 0)
    out = {"key": piece.segment.values(by).take(pa.array(kept))}
    for name, source in columns.items():
        if source is None:
            out[name] = pa.array(piece.of(piece.segment.numbers(name))[last[kept]], from_pandas=True)
            continue
        values = piece.segment.values(source_key(source))
        found = [piece.of(code)[last[kept]] for code in piece.segment.codes(source_key(source))]
        taken = [values.take(pa.array(code, mask=code < 0)) for code in found]
        out[name] = taken[0] if source.width is None else _lists(taken, values.type, len(kept))
    return pa.table(out)


def _lists(places: list[pa.Array], kind: pa.DataType, num: int) -> pa.Array:
    """[n] lists out of one array per place; nulls end a list."""
    rows = zip(*(place.to_pylist() for place in places), strict=True) if places else [()] * num
    return pa.array([[value for value in row if value is not None] for row in rows], pa.list_(kind))

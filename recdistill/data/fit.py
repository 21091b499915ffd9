"""Fit the encoder on the train window: vocabularies, bins, scales; memory grows with the vocabularies only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.config import Run
from recdistill.config_features import DenseColumn, IdColumn
from recdistill.data.codes import count_codes
from recdistill.data.columns import Source, source_of
from recdistill.data.encoder import Encoder, layout_of
from recdistill.data.parts import num_threads
from recdistill.data.plan import source_key
from recdistill.data.scale import NUM_RANKS, Moments, Numbers, Scale, quantiles, transformed
from recdistill.data.served import Served
from recdistill.data.tables import Bins, Hashed, Table, Vocabulary, splitmix
from recdistill.data.view import Slice, View
from recdistill.files import digest
from recdistill.problems import BadInput, problem

SAMPLE = 200_000  # rows that quantiles are taken from
Ints = NDArray[np.int64]
Aggregated = Callable[[Slice], Mapping[str, Numbers]]


class Counts:
    """How often each value of a table came, values numbered in the order in which they first came."""

    def __init__(self) -> None:
        self.known: pa.Array | None = None
        self.index = pd.Index([], dtype="int64")
        self.counts = np.zeros(0, dtype=np.int64)

    def add(self, values: pa.Array, counts: Ints) -> None:
        """[d] different plain values and how often each came."""
        seen = counts > 0
        values, counts = values.filter(pa.array(seen)), counts[seen]
        if not len(values):
            return
        if self.known is None:
            self.known = values.slice(0, 0)
        places, new = self._number(values)
        if len(new):
            self.known = pa.concat_arrays([self.known, new])
            self.counts = np.concatenate([self.counts, np.zeros(len(new), dtype=np.int64)])
        self.counts[places] += counts

    def _number(self, values: pa.Array) -> tuple[Ints, pa.Array]:
        """Each value's number, and the values that had none before."""
        if pt.is_int64(values.type):  # pandas keeps the hash table for as long as nothing new comes
            plain = values.to_numpy(zero_copy_only=False)
            places = self.index.get_indexer(plain)
            fresh = plain[places < 0]
            places[places < 0] = np.arange(len(fresh)) + len(self.index)
            if len(fresh):
                self.index = pd.Index(np.concatenate([self.index.to_numpy(), fresh]))
            return places, pa.array(fresh)
        known = self.known
        assert known is not None
        together = pa.concat_arrays([known, values]).dictionary_encode()
        codes = together.indices.slice(len(known)).to_numpy(zero_copy_only=False).astype(np.int64)
        return codes, together.dictionary.slice(len(known))

    def vocabulary(self, name: str, min_count: int, max_rows: int | None, before: pa.Array | None) -> Vocabulary:
        """Values that came often enough, ascending: the order of rows never matters. Those of `before` come first."""
        known = pa.array([], pa.int64()) if self.known is None else self.known
        often = self.counts >= min_count
        if before is not None:
            often &= ~pc.is_in(known, value_set=before).to_numpy(zero_copy_only=False)
        kept, counts = known.filter(pa.array(often)), self.counts[often]
        order = pc.array_sort_indices(kept).to_numpy(zero_copy_only=False)
        if max_rows is not None:
            room = max(0, max_rows - (0 if before is None else len(before)))
            most = np.argsort(-counts[order], kind="stable")[:room]
            order = order[np.sort(most)]
        values = kept.take(pa.array(order))
        return Vocabulary(name=name, values=values if before is None else pa.concat_arrays([before, values]))


def fit(
    run: Run, view: View, aggregated: Aggregated, means: dict[str, float], before: Encoder | None = None
) -> Encoder:
    """The encoder of the train window. before: an encoder whose values keep their rows; new ones come after them.

    aggregated: the aggregates of a slice's rows.
    """
    features = run.features
    sources = {spec.title: source_of(spec, run.data) for spec in features.ids}
    outcomes = features.history.outcomes if features.history else []
    sources |= {name: Source(columns=(name,)) for name in outcomes if name not in sources}
    tables = fit_tables(run, view, sources, before)
    scales = _scales(run, view, aggregated)
    return Encoder(
        features=features,
        layout=replace(layout_of(features, tables), tasks=tuple(task.name for task in run.data.tasks)),
        sources=sources,
        tables=tables,
        scales=scales,
        means=means,
        served=_served(run, view),
    )


def fit_tables(run: Run, view: View, sources: Mapping[str, Source], before: Encoder | None = None) -> dict[str, Table]:
    """Every table that the sources read, by name."""
    specs = {spec.title: spec for spec in run.features.ids}
    table_of = {title: spec.table or title for title, spec in specs.items()}
    first = {table_of[title]: spec for title, spec in reversed(specs.items())}
    readers: dict[str, list[Source]] = {}
    for title, source in sources.items():
        readers.setdefault(table_of.get(title, title), []).append(source)
    tables: dict[str, Table] = {}
    counts: dict[str, Counts] = {}
    for name in readers:
        spec = first.get(name, IdColumn(column=name))
        if spec.hash_buckets is not None:
            salt = int(digest(["salt", name])[:16], 16)
            tables[name] = Hashed(name=name, buckets=spec.hash_buckets, salt=salt)
        elif spec.edges is not None:
            tables[name] = Bins(name=name, edges=tuple(spec.edges))
        elif spec.quantiles is not None:
            assert spec.column is not None
            old = None if before is None else before.tables.get(name)
            edges = old.edges if isinstance(old, Bins) else quantiles(list(sampled(view, spec.column)), spec.quantiles)
            tables[name] = Bins(name=name, edges=edges)
        else:
            counts[name] = Counts()
    with ThreadPoolExecutor(num_threads(run)) as pool:
        for piece in view.slices():
            events = piece.train & piece.happened
            if events.any():
                work = partial(_count, piece=piece, events=None if piece.whole and events.all() else events)
                list(pool.map(lambda name, count=work: count(counts[name], readers[name]), counts))
    _refuse_empty({name: int(counter.counts.sum()) for name, counter in counts.items()})
    for name, counter in counts.items():
        spec = first.get(name, IdColumn(column=name))
        old = None if before is None else before.tables.get(name)
        known = old.values if isinstance(old, Vocabulary) else None
        tables[name] = counter.vocabulary(name, spec.min_count, spec.max_rows, known)
    return {name: tables[name] for name in readers}


def _refuse_empty(values: Mapping[str, int]) -> None:
    """BadInput for what holds no value in the train window: nothing could be learned from it."""
    remedy = "mend the log, or drop the feature"
    lines = [
        problem(f"feature {name}", wanted="values in the train window", found="only nulls", remedy=remedy)
        for name, num in values.items()
        if not num
    ]
    if lines:
        raise BadInput(lines)


def _count(counter: Counts, sources: Sequence[Source], piece: Slice, events: NDArray[np.bool_] | None) -> None:
    """The values of the sources in a slice's events of the train window; None where they are the whole segment."""
    for source in sources:
        key = source_key(source)
        values = piece.segment.values(key)
        if events is None:
            counter.add(values, piece.segment.counts(key))
        else:
            counts = [count_codes(piece.of(codes)[events], len(values)) for codes in piece.segment.codes(key)]
            counter.add(values, np.sum(counts, axis=0, dtype=np.int64) if counts else np.zeros(0, dtype=np.int64))


def sampled(view: View, column: str) -> Iterator[Numbers]:
    """About SAMPLE train rows' numbers of a column, chosen by a hash of their row numbers: the same in every run."""
    num = sum(int(piece.train.sum()) for piece in view.slices())
    limit = np.uint64(min(1.0, SAMPLE / max(num, 1)) * float(2**64 - 2**11))
    for piece in view.slices():
        if piece.train.any():
            chosen = piece.train & (splitmix(piece.of(piece.segment.row_id).view(np.uint64)) <= limit)
            yield piece.of(piece.segment.numbers(column))[chosen]


def _scales(run: Run, view: View, aggregated: Aggregated) -> tuple[Scale, ...]:
    features = run.features
    moments: dict[str, tuple[Moments, str]] = {
        s.title: (Moments(), s.transform) for s in features.dense if s.transform != "rank"
    }
    kinds = {s.title: "standardise" if s.value == "mean" else "log1p" for s in features.aggregates}
    summed = {title: (Moments(), kind) for title, kind in kinds.items()}
    for piece in view.slices():
        if not piece.train.any():
            continue
        for title, (moment, transform) in moments.items():
            moment.add(transformed(_train(piece, piece.of(piece.segment.numbers(title))), transform))
        found = aggregated(piece) if summed else {}
        for title, (moment, transform) in summed.items():
            moment.add(transformed(_train(piece, found[title]), transform))
    _refuse_empty({title: moment.count for title, (moment, _) in moments.items()})
    ranked = [_rank(spec, view) for spec in features.dense if spec.transform == "rank"]
    scales = {title: m.scale(title, kind) for title, (m, kind) in (moments | summed).items()}
    scales |= {scale.column: scale for scale in ranked}
    return tuple(scales[name] for name in [s.title for s in features.dense] + list(kinds))


def _train(piece: Slice, values: Numbers) -> Numbers:
    return values if piece.train.all() else values[piece.train]


def _rank(spec: DenseColumn, view: View) -> Scale:
    sample = list(sampled(view, spec.column))
    _refuse_empty({spec.title: sum(int((~np.isnan(part)).sum()) for part in sample)})
    return Scale(column=spec.column, transform="rank", edges=quantiles(sample, NUM_RANKS))


def _served(run: Run, view: View) -> dict[str, Served]:
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

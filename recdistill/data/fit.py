"""Fit the encoder on the train window: vocabularies, bins, scales; memory grows with the vocabularies only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from recdistill.config.features import DenseColumn, IdColumn
from recdistill.config.run import Run
from recdistill.data.codes import count_codes
from recdistill.data.columns import Source, source_of
from recdistill.data.counts import Counts
from recdistill.data.encoder import Encoder, layout_of
from recdistill.data.last import last_served
from recdistill.data.parts import num_threads
from recdistill.data.plan import source_key
from recdistill.data.scale import NUM_RANKS, Moments, Numbers, Scale, quantiles, transformed
from recdistill.data.tables import Bins, Hashed, Table, Vocabulary, splitmix
from recdistill.data.view import Slice, View
from recdistill.files import digest
from recdistill.problems import BadInput, problem

SAMPLE = 200_000  # rows that quantiles are taken from
Ints = NDArray[np.int64]
Aggregated = Callable[[Slice], Mapping[str, Numbers]]


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
        served=last_served(run, view),
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

"""Raw columns -> one ids matrix and one dense matrix; fitted on the train window only, saved with the student."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.config_features import Features
from recdistill.data.logs import plain_ids
from recdistill.files import digest, file_digest, read_json, write_json
from recdistill.problems import BadInput, problem
from recdistill.types import ABSENT, FIRST_KNOWN, OOV, IdFeature, Layout

_COMPACT_AT = 4_000_000  # distinct values held before partial counts are merged: bounds the memory of a fit
HISTORY = "history."  # a raw request names its lists of past events history.<column>, oldest first

Ids = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """value -> (transform(value) - mean) / deviation; a null becomes 0, which is the mean."""

    column: str
    transform: str
    mean: float
    deviation: float

    def __call__(self, values: pa.Array) -> Floats:
        numbers = _transformed(values, self.transform)
        scaled = (numbers - self.mean) / self.deviation
        return np.nan_to_num(scaled, nan=0.0).astype(np.float32)


def _transformed(values: pa.Array, transform: str) -> NDArray[np.float64]:
    """float64, NaN for null."""
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.log1p(numbers) if transform == "log1p" else numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """The one path from raw values to ids, used by training, evaluation and serving alike.

    vocabularies: table -> its known values in the order of their ids, from id 2 on (0 = absent, 1 = unknown).
    """

    layout: Layout
    vocabularies: dict[str, pa.Array]
    scales: tuple[Scale, ...]

    def now(self, rows: pa.RecordBatch | pa.Table) -> tuple[Ids, Floats]:
        """What a row says of itself: ids [n, columns before the histories] and dense [n, D]."""
        features = self.layout.pooled
        ids = np.zeros((rows.num_rows, sum(feature.width for feature in features)), dtype=np.int32)
        for feature in features:
            values = self._column(rows, feature.name)
            if feature.kind == "bag":
                ids[:, feature.columns] = self._lists(feature, values, newest_first=False)
            else:
                ids[:, feature.start] = self.ids_of(feature.table, values)
        dense = [scale(self._column(rows, scale.column)) for scale in self.scales]
        return ids, np.stack(dense, axis=1) if dense else np.zeros((rows.num_rows, 0), dtype=np.float32)

    def events(self, rows: pa.RecordBatch) -> dict[str, Ids]:
        """What a row will be in later rows' histories: feature name -> ids [n]."""
        return {f.name: self.ids_of(f.table, self._column(rows, f.table)) for f in self.layout.histories}

    def request(self, rows: pa.Table) -> tuple[Ids, Floats]:
        """A raw request, its histories given as lists, oldest first: ids [n, K] and dense [n, D]."""
        ids, dense = self.now(rows)
        lists = [self._lists(f, self._column(rows, f.name), newest_first=True) for f in self.layout.histories]
        return np.concatenate([ids, *lists], axis=1), dense

    def ids_of(self, table: str, values: pa.Array) -> Ids:
        """[n] ids of plain values: null -> 0, unknown -> 1."""
        if pt.is_null(values.type):
            return np.full(len(values), ABSENT, dtype=np.int32)
        known = self.vocabularies[table]
        plain = plain_ids(values)
        if plain.type != known.type:
            remedy = "give the type that the encoder was fitted on"
            raise BadInput(problem(f"column {table}", wanted=str(known.type), found=str(values.type), remedy=remedy))
        places = pc.fill_null(pc.index_in(plain, value_set=known), OOV - FIRST_KNOWN)
        ids = places.to_numpy(zero_copy_only=False).astype(np.int32) + FIRST_KNOWN
        if values.null_count:
            ids[values.is_null().to_numpy(zero_copy_only=False)] = ABSENT
        return ids

    def _lists(self, feature: IdFeature, values: pa.Array, *, newest_first: bool) -> Ids:
        """[n, width] ids of a list column: its first values, or its last ones backwards."""
        row = pc.list_parent_indices(values).to_numpy(zero_copy_only=False).astype(np.int64)
        flat = self.ids_of(feature.table, pc.list_flatten(values))
        length = np.bincount(row, minlength=len(values))
        place = np.arange(len(flat)) - np.repeat(np.cumsum(length) - length, length)
        if newest_first:
            place = length[row] - 1 - place
        kept = place < feature.width
        out = np.zeros((len(values), feature.width), dtype=np.int32)
        out[row[kept], place[kept]] = flat[kept]
        return out

    @staticmethod
    def _column(rows: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
        if name not in rows.schema.names:
            remedy = f"give it; there are {', '.join(rows.schema.names)}"
            raise BadInput(problem("request", wanted=f"column {name}", found="none", remedy=remedy))
        column = rows.column(name)
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

    @property
    def digest(self) -> str:
        """Of layout, vocabularies and scales: two encoders with one digest give the same ids."""
        values = {table: digest(known.to_pylist()) for table, known in self.vocabularies.items()}
        scales = [[s.column, s.transform, s.mean, s.deviation] for s in self.scales]
        return digest({"layout": self.layout.to_json(), "values": values, "scales": scales})

    def save(self, folder: Path) -> None:
        """Write encoder.json and one Arrow file per vocabulary, which is named there with its sha256."""
        folder.mkdir(parents=True, exist_ok=True)
        tables: dict[str, Any] = {}
        for number, (table, known) in enumerate(self.vocabularies.items()):
            path = folder / f"vocabulary-{number:02d}.arrow"
            with pa.ipc.new_file(path, pa.schema([("value", known.type)])) as writer:
                writer.write_table(pa.table({"value": known}))
            tables[table] = {"file": path.name, "sha256": file_digest(path)}
        scales = [{n: getattr(s, n) for n in ("column", "transform", "mean", "deviation")} for s in self.scales]
        write_json(folder / "encoder.json", {"layout": self.layout.to_json(), "tables": tables, "scales": scales})

    @staticmethod
    def open(folder: Path) -> Encoder:
        """Read what `save` wrote. BadInput where a vocabulary is not the one that the encoder was saved with."""
        about = read_json(folder / "encoder.json")
        vocabularies = {}
        for table, entry in about["tables"].items():
            path = folder / entry["file"]
            if file_digest(path) != entry["sha256"]:
                remedy = "restore the folder that was written whole"
                raise BadInput(
                    problem(str(path), wanted="the vocabulary of this encoder", found="another", remedy=remedy)
                )
            with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
                vocabularies[table] = reader.read_all().column("value").combine_chunks()
        return Encoder(
            layout=Layout.from_json(about["layout"]),
            vocabularies=vocabularies,
            scales=tuple(Scale(**scale) for scale in about["scales"]),
        )


class _Counts:
    """Counts of distinct values, merged before they grow out of hand."""

    def __init__(self) -> None:
        self.parts: list[pa.Table] = []
        self.held = 0

    def add(self, values: pa.Array) -> None:
        counts = pc.value_counts(values.drop_null())
        part = pa.table({"value": counts.field("values"), "count": counts.field("counts")})
        self.parts.append(part)
        self.held += part.num_rows
        if self.held > _COMPACT_AT:
            self.parts = [self.merged()]
            self.held = self.parts[0].num_rows

    def merged(self) -> pa.Table:
        """Columns value and count, by ascending value, so that the order of the rows never matters."""
        together = pa.concat_tables(self.parts).group_by("value").aggregate([("count", "sum")])
        return together.rename_columns(["value", "count"]).sort_by("value")


class _Moments:
    """Mean and deviation of a stream (Chan et al. 1979, pairwise update); nulls are left out."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, numbers: NDArray[np.float64]) -> None:
        numbers = numbers[~np.isnan(numbers)]
        if not len(numbers):
            return
        count, mean = len(numbers), float(numbers.mean())
        total, gap = self.count + count, mean - self.mean
        self.squares += float(((numbers - mean) ** 2).sum()) + gap * gap * self.count * count / total
        self.mean += gap * count / total
        self.count = total

    def scale(self, column: str, transform: str) -> Scale:
        deviation = float(np.sqrt(self.squares / self.count)) if self.count else 0.0
        return Scale(column=column, transform=transform, mean=self.mean, deviation=deviation or 1.0)


def fit(features: Features, train: Iterable[pa.RecordBatch]) -> Encoder:
    """Vocabularies and scales of the train window, given batch by batch; memory grows with the vocabularies only."""
    outcomes = features.history.outcomes if features.history else []
    columns = list(dict.fromkeys([spec.title for spec in features.ids] + outcomes))
    counts = {column: _Counts() for column in columns}
    moments = [_Moments() for _ in features.dense]
    for batch in train:
        for column, counter in counts.items():
            values = batch.column(column)
            listed = pt.is_list(values.type) or pt.is_large_list(values.type)
            counter.add(plain_ids(pc.list_flatten(values) if listed else values))
        for spec, moment in zip(features.dense, moments, strict=True):
            moment.add(_transformed(batch.column(spec.column), spec.transform))
    least = {spec.title: spec.min_count for spec in features.ids}
    vocabularies = {}
    for column, counter in counts.items():
        table = counter.merged()
        kept = table.filter(pc.greater_equal(table.column("count"), least.get(column, 1)))
        vocabularies[column] = kept.column("value").combine_chunks()
    scales = tuple(m.scale(s.column, s.transform) for s, m in zip(features.dense, moments, strict=True))
    sizes = {column: len(known) + FIRST_KNOWN for column, known in vocabularies.items()}
    return Encoder(layout=_layout(features, sizes), vocabularies=vocabularies, scales=scales)


def _layout(features: Features, sizes: dict[str, int]) -> Layout:
    placed: list[IdFeature] = []

    def place(name: str, column: str, width: int, kind: Any) -> None:
        start = placed[-1].columns.stop if placed else 0
        rows = sizes[column]
        placed.append(IdFeature(name=name, table=column, start=start, width=width, num_rows=rows, kind=kind))

    for spec in features.ids:
        place(spec.title, spec.title, spec.max_values or 1, "single" if spec.max_values is None else "bag")
    if features.history is not None:
        for column in (features.history.item, *features.history.outcomes):
            place(HISTORY + column, column, features.history.length, "history")
    return Layout(ids=tuple(placed), dense=tuple(spec.column for spec in features.dense))

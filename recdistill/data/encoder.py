"""Raw columns -> one ids matrix and one dense matrix; fitted on the train window only, saved with the student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.config.features import Features
from recdistill.data.columns import HISTORY, Rows, Source, column, listed, numbers
from recdistill.data.scale import Scale
from recdistill.data.served import Served, open_served, save_served
from recdistill.data.tables import Ids, Table, open_table
from recdistill.files import digest, read_json, write_json
from recdistill.types import IdFeature, Layout

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """The one path from raw values to ids and scaled numbers, used by training, evaluation and serving alike.

    sources: id feature (or outcome of the history) -> where its values come from. tables: by the names in the layout.
    means: aggregate -> the mean that its smoothing draws to. served: key -> the columns that the bundle knows by it.
    """

    features: Features
    layout: Layout
    sources: dict[str, Source]
    tables: dict[str, Table]
    scales: tuple[Scale, ...]
    means: dict[str, float]
    served: dict[str, Served]

    def now(self, rows: Rows, known: frozenset[str] | set[str] = frozenset()) -> tuple[Ids, Floats]:
        """What a row says of itself: ids [n, columns before the histories] and dense [n, D].

        known: the features that can be had; where it is given, all others are absent.
        """
        features = self.layout.pooled
        ids = np.zeros((rows.num_rows, sum(feature.width for feature in features)), dtype=np.int32)
        for feature in features:
            if known and feature.name not in known:
                continue
            values = self.sources[feature.name].values(rows)
            if feature.kind == "bag":
                ids[:, feature.columns] = self._lists(feature, values, newest_first=False)
            else:
                ids[:, feature.start] = self.tables[feature.table].ids(values)
        dense = np.zeros((rows.num_rows, len(self.scales)), dtype=np.float32)
        for place, scale in enumerate(self.scales):
            if not known or scale.column in known:
                dense[:, place] = scale(numbers(column(rows, scale.column)))
        return ids, dense

    def request(self, rows: pa.Table) -> tuple[Ids, Floats]:
        """A raw request, its histories given as lists, oldest first: ids [n, K] and dense [n, D].

        What can never be had when serving is absent; what the bundle knows by a key is filled in.
        """
        for served in self.served.values():
            rows = served.fill(rows)
        known = {*(f.name for f in self.layout.pooled), *self.layout.dense} - self.features.privileged
        ids, dense = self.now(rows, known)
        lists = [self._lists(f, column(rows, f.name), newest_first=True) for f in self.layout.histories]
        return np.concatenate([ids, *lists], axis=1), dense

    def _lists(self, feature: IdFeature, values: pa.Array, *, newest_first: bool) -> Ids:
        """[n, width] ids of a list column: its first values, or its last ones backwards."""
        row, place, flat = listed(values, feature.width, last=newest_first)
        out = np.zeros((len(values), feature.width), dtype=np.int32)
        out[row, place] = self.tables[feature.table].ids(flat)
        return out

    def comparable(self) -> tuple[list[int], list[int]]:
        """Columns of ids and of dense that a request and the store must agree on: those a request determines.

        Not those that are privileged, nor those that the bundle fills in from the train window.
        """
        apart = self.features.privileged | set(self.features.keyed)
        ids = [n for f in self.layout.ids if f.name not in apart for n in range(f.start, f.start + f.width)]
        return ids, [n for n, name in enumerate(self.layout.dense) if name not in apart]

    @property
    def needed(self) -> list[str]:
        """The columns of a raw request: of what can be had there, its histories as lists."""
        privileged = self.features.privileged
        filled = {name for served in self.served.values() for name in served.names}
        names = [n for f in self.layout.pooled if f.name not in privileged for n in self.sources[f.name].columns]
        names += [name for name in self.layout.dense if name not in privileged]
        names = [name for name in names if name not in filled] + list(self.served)
        return list(dict.fromkeys([*names, *(feature.name for feature in self.layout.histories)]))

    @property
    def digest(self) -> str:
        """Of all that decides the ids and numbers of a row: two encoders with one digest encode alike."""
        tables = {name: table.digest for name, table in self.tables.items()}
        served = {key: served.digest for key, served in self.served.items()}
        return digest({**self._json(), "values": tables, "served": served})

    def _json(self) -> dict[str, Any]:
        return {
            "features": self.features.model_dump(mode="json"),
            "layout": self.layout.to_json(),
            "sources": {name: source.to_json() for name, source in self.sources.items()},
            "scales": [scale.to_json() for scale in self.scales],
            "means": self.means,
        }

    def save(self, folder: Path) -> None:
        """Write encoder.json and an Arrow file per vocabulary and served table, named there with their sha256."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = {name: table.save(folder, f"{n:02d}") for n, (name, table) in enumerate(self.tables.items())}
        served = {key: save_served(found, folder, f"{n:02d}") for n, (key, found) in enumerate(self.served.items())}
        write_json(folder / "encoder.json", {**self._json(), "tables": tables, "served": served})

    @staticmethod
    def open(folder: Path) -> Encoder:
        """Read what `save` wrote. BadInput where a file is not the one that the encoder was saved with."""
        about = read_json(folder / "encoder.json")
        return Encoder(
            features=Features.model_validate(about["features"]),
            layout=Layout.from_json(about["layout"]),
            sources={name: Source.from_json(source) for name, source in about["sources"].items()},
            tables={name: open_table(name, entry, folder) for name, entry in about["tables"].items()},
            scales=tuple(Scale.from_json(scale) for scale in about["scales"]),
            means=about["means"],
            served={key: open_served(key, entry, folder) for key, entry in about["served"].items()},
        )


def layout_of(features: Features, tables: Mapping[str, Table]) -> Layout:
    """What the columns of the two matrices are, given the size of every table."""
    placed: list[IdFeature] = []

    def place(name: str, table: str, width: int, kind: Any) -> None:
        start = placed[-1].columns.stop if placed else 0
        rows = tables[table].num_rows
        placed.append(IdFeature(name=name, table=table, start=start, width=width, num_rows=rows, kind=kind))

    table_of = {spec.title: spec.table or spec.title for spec in features.ids}
    for spec in features.ids:
        place(spec.title, table_of[spec.title], spec.max_values or 1, "single" if spec.max_values is None else "bag")
    if features.history is not None:
        for name in (features.history.item, *features.history.outcomes):
            place(HISTORY + name, table_of.get(name, name), features.history.length, "history")
    dense = tuple(s.title for s in features.dense) + tuple(s.title for s in features.aggregates)
    return Layout(ids=tuple(placed), dense=dense)

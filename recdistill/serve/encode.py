"""A request's values as rows of the two matrices, equal to what the encoder makes of them, but without its overhead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.data.columns import Source, listed
from recdistill.data.encoder import Encoder
from recdistill.data.scale import Scale
from recdistill.data.tables import Table, Vocabulary
from recdistill.serve.lookup import Ids, Lookup, lookup
from recdistill.serve.values import arrow, is_plain_int, is_text, numbers, refused
from recdistill.types import ABSENT, FIRST_KNOWN, IdFeature

Values = Mapping[str, Any]
Floats = NDArray[np.float32]


class IdReader:
    """The ids of one feature. quick: by lookup where the feature is one column of a vocabulary, else by the encoder."""

    def __init__(
        self, feature: IdFeature, source: Source, table: Table, types: Mapping[str, pa.DataType], known: Lookup | None
    ) -> None:
        self.feature, self.source, self.table, self.types = feature, source, table, types
        self.listed = feature.kind != "single"
        self.newest_first = feature.kind == "history"
        self.name = source.columns[0]
        self.quick = known if self._is_plain() else None

    @property
    def columns(self) -> tuple[str, ...]:
        return self.source.columns

    def _is_plain(self) -> bool:
        if len(self.columns) > 1 or self.source.calendar is not None or not isinstance(self.table, Vocabulary):
            return False
        kind = self.types[self.name]
        if self.listed:
            if not pt.is_list(kind):
                return False
            kind = kind.value_type
        whole = pt.is_int64(self.table.values.type)
        return is_plain_int(kind) if whole else is_text(kind)

    def once(self, values: Values) -> list[int]:
        """The ids of a single row, `width` of them; values: column -> its value."""
        if self.quick is None:
            return self.each({name: [values[name]] for name in self.columns}, 1)[0].tolist()
        value = values[self.name]
        if not self.listed:
            return [self.quick.one(self.name, value)]
        ids = [] if value is None else self._list(value)
        return ids + [ABSENT] * (self.feature.width - len(ids))

    def _list(self, value: Any) -> list[int]:
        assert self.quick is not None
        if not isinstance(value, list | tuple | np.ndarray | pa.Array):
            raise refused(self.name, "a list", type(value).__name__)
        width = self.feature.width
        cut = value[-width:][::-1] if self.newest_first else value[:width]
        return self.quick.many(self.name, cut).tolist()

    def each(self, values: Values, num_rows: int) -> Ids:
        """[num_rows, width] ids; values: column -> its num_rows values."""
        if self.quick is not None and not self.listed:
            return self.quick.many(self.name, values[self.name])[:, np.newaxis]
        rows = pa.table({name: arrow(name, values[name], self.types[name]) for name in self.columns})
        of_rows = self.source.values(rows)
        if not self.listed:
            return self.table.ids(of_rows).astype(np.int64)[:, np.newaxis]
        row, place, flat = listed(of_rows, self.feature.width, last=self.newest_first)
        out = np.zeros((num_rows, self.feature.width), dtype=np.int64)
        out[row, place] = self.table.ids(flat)
        return out


class DenseReader:
    """One scaled number."""

    def __init__(self, scale: Scale, types: Mapping[str, pa.DataType]) -> None:
        self.scale, self.name, self.kind = scale, scale.column, types[scale.column]
        self.columns = (self.name,)

    def once(self, values: Values) -> float:
        """Of a single row."""
        return float(self.scale(numbers(self.name, [values[self.name]], self.kind))[0])

    def each(self, values: Values) -> Floats:
        """[n] of many."""
        return self.scale(numbers(self.name, values[self.name], self.kind))


def readers(encoder: Encoder, types: Mapping[str, pa.DataType]) -> tuple[list[IdReader], dict[int, DenseReader]]:
    """Of every id feature that a request has, and of every number by its place in the dense matrix.

    types: of the columns of a request and of the items. A vocabulary that features share is looked up in one table.
    """
    known: dict[str, Lookup] = {}
    privileged = encoder.features.privileged
    ids = []
    for feature in encoder.layout.ids:
        if feature.name in privileged:
            continue
        table = encoder.tables[feature.table]
        if isinstance(table, Vocabulary) and feature.table not in known:
            known[feature.table] = lookup(table.values, np.arange(len(table.values), dtype=np.int64) + FIRST_KNOWN)
        ids.append(IdReader(feature, _source(encoder, feature), table, types, known.get(feature.table)))
    scales = {n: s for n, s in enumerate(encoder.scales) if s.column not in privileged}
    return ids, {place: DenseReader(scale, types) for place, scale in scales.items()}


def _source(encoder: Encoder, feature: IdFeature) -> Source:
    """A request gives a history as a list under the feature's own name."""
    return Source(columns=(feature.name,)) if feature.kind == "history" else encoder.sources[feature.name]

"""A slice's records, field by field, out of its codes and numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.data.aggregates import Aggregates
from recdistill.data.encoder import Encoder
from recdistill.data.plan import source_key
from recdistill.data.scale import Scale
from recdistill.data.segment import Segment
from recdistill.data.tables import Bins
from recdistill.data.view import Slice, View
from recdistill.types import ABSENT

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Reader = Callable[[slice], Ids]


class Lookup:
    """From the codes of a segment to ids: a table of the segment's values for every source, made when first wanted."""

    def __init__(self, segment: Segment, encoder: Encoder) -> None:
        self.segment, self.encoder = segment, encoder
        self.made: dict[tuple[str, str], Ids] = {}

    def _ids_of_codes(self, key: str, table: str) -> Ids:
        """[values + 1]; the last is that of code -1."""
        if (key, table) not in self.made:
            found = self.encoder.tables[table].ids(self.segment.values(key))
            self.made[key, table] = np.append(found, np.int32(ABSENT))
        return self.made[key, table]

    def readers(self, source: str, table: str, piece: Slice) -> list[Reader]:
        """One per column of the source: a run of the slice's rows -> their ids."""
        known = self.encoder.sources[source]
        binned = self.encoder.tables[table]
        if isinstance(binned, Bins):
            numbers = piece.of(self.segment.numbers(known.columns[0]))
            return [lambda chunk: binned.of_numbers(numbers[chunk])]
        by_code = self._ids_of_codes(source_key(known), table)
        every = [piece.of(codes) for codes in self.segment.codes(source_key(known))]
        return [partial(_taken, by_code, codes) for codes in every]


def _taken(by_code: Ids, codes: NDArray[np.signedinteger], chunk: slice) -> Ids:
    return np.take(by_code, codes[chunk], mode="wrap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Of a slice's records. plain: [n] by name; ids: readers by their place; dense: scales and their numbers [n]."""

    piece: Slice
    plain: dict[str, NDArray[Any]]
    ids: list[tuple[int, Reader]]
    dense: list[tuple[Scale, NDArray[np.floating]]]

    def records(self, chunk: slice, kind: np.dtype[np.void]) -> NDArray[np.void]:
        """Those of a run of the slice's rows."""
        records = np.zeros(len(self.plain["time"][chunk]), dtype=kind)
        for name in self.plain.keys() & set(kind.names or ()):
            records[name] = self.plain[name][chunk]
        for place, reader in self.ids:
            records["ids"][:, place] = reader(chunk)
        for place, (scale, numbers) in enumerate(self.dense):
            records["dense"][:, place] = scale(numbers[chunk].astype(np.float64, copy=False))
        return records


def fields_of(piece: Slice, encoder: Encoder, aggregates: Aggregates, view: View, past: Ints | None) -> Fields:
    """past: [slots, 2] where each row's past begins and ends; None without histories."""
    lookup = Lookup(piece.segment, encoder)
    ids: list[tuple[int, Reader]] = []
    for feature in encoder.layout.pooled:
        readers = lookup.readers(feature.name, feature.table, piece)
        ids += [(feature.start + n, reader) for n, reader in enumerate(readers)]
    summed = aggregates(piece)
    names = [scale.column for scale in encoder.scales]
    numbers = [summed[n] if n in summed else piece.of(piece.segment[f"number {n}"]) for n in names]
    plain: dict[str, NDArray[Any]] = {name: piece[name] for name in ("time", "user", "request", "label")}
    if past is not None:
        plain["past"] = past[piece.first_slot : piece.first_slot + len(piece)]
    if view.data.tasks:
        plain["tasks"] = _tasks(piece, view)
    plain |= {"row_id": piece.of(piece.segment.row_id), "offset": _offset(piece, view)}
    return Fields(piece=piece, plain=plain, ids=ids, dense=list(zip(encoder.scales, numbers, strict=True)))


def _tasks(piece: Slice, view: View) -> NDArray[np.float32]:
    """[n, number of tasks] the labels beside data.label; a drawn negative has none."""
    found = np.stack([piece[f"task {task.name}"] for task in view.data.tasks], axis=1)
    found[~piece.happened] = np.nan
    return found


def _offset(piece: Slice, view: View) -> NDArray[np.float32]:
    """[n] what corrects a training score for the negatives that were drawn or dropped."""
    offset = np.zeros(len(piece), dtype=np.float32)
    if view.data.negatives is not None:
        offset += piece.of(piece.segment.numbers("offset")).astype(np.float32)
    if view.data.keep_negatives < 1:
        offset[piece.train] -= np.float32(np.log(view.data.keep_negatives))
    return offset

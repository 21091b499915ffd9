"""Encode a view: fit, sort every user's events, and write each window's records in the order of the log."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.config import Run
from recdistill.data.aggregates import Aggregates
from recdistill.data.ahead import ahead, mapped
from recdistill.data.columns import HISTORY
from recdistill.data.encoder import Encoder
from recdistill.data.fit import fit
from recdistill.data.history import HistoryWriter, check_point_in_time
from recdistill.data.npy import NpyWriter
from recdistill.data.parts import num_threads
from recdistill.data.plan import source_key
from recdistill.data.scale import Scale
from recdistill.data.segment import Segment
from recdistill.data.split import SPLITS
from recdistill.data.store import ROWS, record_type
from recdistill.data.tables import Bins
from recdistill.data.view import Slice, View
from recdistill.problems import BadInput, problem
from recdistill.types import ABSENT

ROWS_PER_CHUNK = 8192  # so that a chunk's records stay in the cache while its columns are written
Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Reader = Callable[[slice], Ids]


def encode(run: Run, view: View, out: Path, splits: Sequence[str], encoder: Encoder | None = None) -> Encoder:
    """Write rows/ of the named windows and events/ of every row, by the encoder given, else by one fitted here."""
    scratch = out / "scratch"
    scratch.mkdir()
    aggregates = Aggregates(run, view, scratch, encoder)
    if encoder is None:
        encoder = fit(run, view, aggregates, aggregates.means, grown_from(run))
    past = _histories(run, view, encoder, out, scratch) if encoder.layout.histories else None
    _rows(view, encoder, aggregates, past, out, [SPLITS.index(name) for name in splits], num_threads(run))
    shutil.rmtree(scratch)
    return encoder


def grown_from(run: Run) -> Encoder | None:
    """The encoder whose ids must stay as they are. BadInput where features.grow_from holds none."""
    if run.features.grow_from is None:
        return None
    folder = Path(run.features.grow_from) / "encoder"
    if not (folder / "encoder.json").is_file():
        remedy = "give a bundle or a prepare folder, or drop it"
        where = f"features.grow_from {run.features.grow_from}"
        raise BadInput(problem(where, wanted="a folder with an encoder", found="none", remedy=remedy))
    return Encoder.open(folder)


def _histories(run: Run, view: View, encoder: Encoder, out: Path, scratch: Path) -> NDArray[np.int64]:
    """[slots, 2] where each row's past begins and ends in events/, memory-mapped."""
    history = run.features.history
    assert history is not None
    num_rows = sum(len(piece) for piece in view.slices())
    names = [feature.name for feature in encoder.layout.histories]
    delay = history.delay // timedelta(microseconds=1)
    writer = HistoryWriter(out / "events", names, num_rows, delay)
    for piece in view.slices():
        lookup = Lookup(piece.segment, encoder)
        every = slice(None)
        ids = {
            f.name: lookup.readers(f.name.removeprefix(HISTORY), f.table, piece)[0](every)
            for f in encoder.layout.histories
        }
        writer.add(user=_whose(run, piece), time=piece["time"], slot=piece.slots, event=piece.happened, ids=ids)
    past = np.lib.format.open_memmap(scratch / "past.npy", mode="w+", dtype=np.int64, shape=(num_rows, 2))
    writer.finish(past)
    events = {name: np.load(out / "events" / f"{name}.npy", mmap_mode="r") for name in ("time", "user")}
    for piece in view.slices():
        place = past[piece.first_slot : piece.first_slot + len(piece)]
        where = f"{piece.segment.file.path}"
        check_point_in_time(place, piece["time"], _whose(run, piece), events["time"], events["user"], where)
    return past


def _whose(run: Run, piece: Slice) -> Ints:
    per = run.features.history.per if run.features.history else None
    return piece["user"] if per is None else piece["key per"]


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


def _rows(
    view: View,
    encoder: Encoder,
    aggregates: Aggregates,
    past: Ints | None,
    out: Path,
    splits: Sequence[int],
    threads: int,
) -> None:
    """The windows' records, in the order of the log."""
    num_ids = sum(feature.width for feature in encoder.layout.pooled)
    id_rows = max((feature.num_rows for feature in encoder.layout.pooled), default=0)
    kind = record_type(
        num_ids, len(encoder.layout.dense), id_rows, past=past is not None, num_tasks=len(view.data.tasks)
    )
    writers = {}
    for split in splits:
        folder = out / "rows" / SPLITS[split]
        folder.mkdir(parents=True)
        writers[split] = NpyWriter(folder / ROWS, kind)
    wanted = (piece for piece in view.slices() if np.isin(piece.which, list(splits)).any())
    fields = ahead((_fields(piece, encoder, aggregates, view, past) for piece in wanted), threads)
    chunks = (
        (of, slice(first, first + ROWS_PER_CHUNK)) for of in fields for first in range(0, len(of.piece), ROWS_PER_CHUNK)
    )
    for which, records in mapped(lambda of, chunk: (of.piece.which[chunk], of.records(chunk, kind)), chunks, threads):
        for split, writer in writers.items():
            inside = which == split
            if inside.any():
                writer.add(records if inside.all() else records[inside])
    for writer in writers.values():
        writer.close()


def _fields(piece: Slice, encoder: Encoder, aggregates: Aggregates, view: View, past: Ints | None) -> Fields:
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

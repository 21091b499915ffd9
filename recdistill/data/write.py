"""Encode a view: fit, sort every user's events, and write each window's records in the order of the log."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.config import Run
from recdistill.data.aggregates import Aggregates
from recdistill.data.ahead import ahead
from recdistill.data.columns import HISTORY
from recdistill.data.encoder import Encoder
from recdistill.data.fit import fit
from recdistill.data.history import HistoryWriter, check_point_in_time
from recdistill.data.npy import NpyWriter
from recdistill.data.parts import num_threads
from recdistill.data.plan import source_key
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
        ids = {f.name: lookup.ids(f.name.removeprefix(HISTORY), f.table, piece)[0] for f in encoder.layout.histories}
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

    def ids(self, source: str, table: str, piece: Slice) -> list[Ids]:
        """One array [n] per column of the source, over the rows of the slice."""
        known = self.encoder.sources[source]
        binned = self.encoder.tables[table]
        if isinstance(binned, Bins):
            return [binned.of_numbers(piece.of(self.segment.numbers(known.columns[0])))]
        by_code = self._ids_of_codes(source_key(known), table)
        return [np.take(by_code, piece.of(codes), mode="wrap") for codes in self.segment.codes(source_key(known))]


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
    kind = record_type(num_ids, len(encoder.layout.dense), id_rows, past=past is not None)
    writers = {}
    for split in splits:
        folder = out / "rows" / SPLITS[split]
        folder.mkdir(parents=True)
        writers[split] = NpyWriter(folder / ROWS, kind)
    wanted = (piece for piece in view.slices() if np.isin(piece.which, list(splits)).any())
    filled = ((piece, _columns(piece, encoder, aggregates, view, past)) for piece in wanted)
    for piece, columns in ahead(filled, threads):
        for first in range(0, len(piece), ROWS_PER_CHUNK):
            chunk = slice(first, first + ROWS_PER_CHUNK)
            records = _records(columns, chunk, kind)
            for split, writer in writers.items():
                inside = piece.which[chunk] == split
                if inside.any():
                    writer.add(records if inside.all() else records[inside])
    for writer in writers.values():
        writer.close()


def _columns(piece: Slice, encoder: Encoder, aggregates: Aggregates, view: View, past: Ints | None) -> dict[str, Any]:
    """The fields of the slice's records; ids and dense as lists of columns, the former with their places."""
    lookup = Lookup(piece.segment, encoder)
    ids: list[tuple[int, Ids]] = []
    for feature in encoder.layout.pooled:
        columns = lookup.ids(feature.name, feature.table, piece)
        ids += [(feature.start + n, column) for n, column in enumerate(columns)]
    summed = aggregates(piece)
    dense = [
        scale(summed[scale.column] if scale.column in summed else piece.of(piece.segment.numbers(scale.column)))
        for scale in encoder.scales
    ]
    fields: dict[str, Any] = {name: piece[name] for name in ("time", "user", "request", "label")}
    if past is not None:
        fields["past"] = past[piece.first_slot : piece.first_slot + len(piece)]
    offset = np.zeros(len(piece), dtype=np.float32)
    if view.data.negatives is not None:
        offset += piece.of(piece.segment.numbers("offset")).astype(np.float32)
    if view.data.keep_negatives < 1:
        offset[piece.train] -= np.float32(np.log(view.data.keep_negatives))
    return fields | {"row_id": piece.of(piece.segment.row_id), "offset": offset, "ids": ids, "dense": dense}


def _records(columns: Mapping[str, Any], chunk: slice, kind: np.dtype[np.void]) -> NDArray[np.void]:
    num = len(columns["time"][chunk])
    records = np.zeros(num, dtype=kind)
    for name in ("row_id", "time", "user", "request", "label", "offset", "past"):
        if name in columns and name in (kind.names or ()):
            records[name] = columns[name][chunk]
    for place, column in columns["ids"]:
        records["ids"][:, place] = column[chunk]
    for place, column in enumerate(columns["dense"]):
        records["dense"][:, place] = column[chunk]
    return records

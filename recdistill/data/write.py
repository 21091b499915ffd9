"""Encode a view: fit, sort every user's events, and write each window's records in the order of the log."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recdistill.config.run import Run
from recdistill.data.aggregates import Aggregates
from recdistill.data.ahead import ahead, mapped
from recdistill.data.columns import HISTORY
from recdistill.data.encoder import Encoder
from recdistill.data.fields import Lookup, fields_of
from recdistill.data.fit import fit
from recdistill.data.history import HistoryWriter, check_point_in_time
from recdistill.data.npy import NpyWriter
from recdistill.data.parts import num_threads
from recdistill.data.split import SPLITS
from recdistill.data.store import ROWS, record_type
from recdistill.data.view import Slice, View
from recdistill.problems import BadInput, problem

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
    fields = ahead((fields_of(piece, encoder, aggregates, view, past) for piece in wanted), threads)
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

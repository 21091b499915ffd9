"""The prepare step: log -> encoder, rows per window and events, memory-mapped; three passes in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.config import Run
from recdistill.data.encoder import Encoder, fit
from recdistill.data.history import HistoryWriter, check_point_in_time
from recdistill.data.logs import Log, open_log
from recdistill.data.raw import RawRows, check_columns, read_rows
from recdistill.data.split import SPLITS, Windows, windows
from recdistill.files import write_json
from recdistill.problems import BadInput, problem

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the first pass finds. num_rows, num_positives: per window, in the order of SPLITS."""

    windows: Windows
    num_rows: tuple[int, ...]
    num_positives: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        rows = {
            name: {"rows": n, "positives": p}
            for name, n, p in zip(SPLITS, self.num_rows, self.num_positives, strict=True)
        }
        return {"windows": self.windows.to_json(), **rows}


def open_checked(run: Run) -> Log:
    """The run's log, its columns checked. BadInput lists what does not fit."""
    log = open_log(run.data.source)
    check_columns(run, log)
    return log


def prepare(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write encoder/, rows/ and events/ of the run's data window, and data.json that says what they are."""
    log = open_checked(run)
    found = survey(run, log)
    encoder = fit(run.features, train_rows(run, log, found.windows))
    encoder.save(out / "encoder")
    write_rows(run, log, encoder, found, out, SPLITS)
    about = {"fingerprint": log.fingerprint, "num_files": len(log.files), "source": log.source}
    write_json(out / "data.json", {**about, **found.to_json(), "encoder": encoder.digest})


def survey(run: Run, log: Log) -> Survey:
    """First pass: every value checked, times cut into windows. BadInput for bad rows, empty or one-sided windows."""
    times, labels = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.float32)]
    for rows in read_rows(run, log):
        times.append(rows.time)
        labels.append(rows.label)
    time, label = np.concatenate(times), np.concatenate(labels)
    cut = windows(time, run.data.split)
    which = cut.which(time)
    num_rows = np.bincount(which, minlength=len(SPLITS))
    num_positives = np.bincount(which, label, minlength=len(SPLITS)).astype(np.int64)
    lines = [
        problem(
            f"{log.source}: {name} window: column {run.data.label.column}",
            wanted="labels of 0 and of 1",
            found=f"only {int(positives > 0)}",
            remedy="widen the window or mend data.label",
        )
        for name, rows, positives in zip(SPLITS, num_rows, num_positives, strict=True)
        if positives in (0, rows)
    ]
    if lines:
        raise BadInput(lines)
    return Survey(windows=cut, num_rows=tuple(num_rows.tolist()), num_positives=tuple(num_positives.tolist()))


def train_rows(run: Run, log: Log, cut: Windows) -> Any:
    """Second pass: the record batches of the train window, and of nothing later."""
    for rows in read_rows(run, log):
        yield rows.columns.filter(pa.array(rows.time < cut.valid))


class _SplitWriter:
    """The matrices of one window, filled from the front."""

    def __init__(self, folder: Path, num_rows: int, encoder: Encoder) -> None:
        folder.mkdir(parents=True)
        num_now = sum(feature.width for feature in encoder.layout.pooled)
        shapes: dict[str, tuple[type, tuple[int, ...]]] = {
            "ids": (np.int32, (num_rows, num_now)),
            "dense": (np.float32, (num_rows, len(encoder.layout.dense))),
            "label": (np.float32, (num_rows,)),
            "past": (np.int64, (num_rows, 2)),
        }
        shapes |= dict.fromkeys(("row_id", "time", "user", "request"), (np.int64, (num_rows,)))
        self.arrays = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
            for name, (kind, shape) in shapes.items()
            if 0 not in shape
        }
        self.filled = 0

    def add(self, values: Mapping[str, NDArray[Any]], inside: NDArray[np.bool_]) -> Ints:
        """Append the rows that are inside; returns [n] each row's line, -1 for those outside."""
        num = int(inside.sum())
        for name, array in self.arrays.items():
            if name in values:
                array[self.filled : self.filled + num] = values[name][inside]
        place = np.full(len(inside), -1, dtype=np.int64)
        place[inside] = np.arange(self.filled, self.filled + num)
        self.filled += num
        return place


def write_rows(run: Run, log: Log, encoder: Encoder, found: Survey, out: Path, splits: Sequence[str]) -> None:
    """Third pass: encode the rows of the named windows, and every row as an event of its user's history."""
    writers = {
        SPLITS.index(name): _SplitWriter(out / "rows" / name, found.num_rows[SPLITS.index(name)], encoder)
        for name in splits
    }
    names = [feature.name for feature in encoder.layout.histories]
    histories = HistoryWriter(out / "events", names, sum(found.num_rows)) if names else None
    for rows in read_rows(run, log):
        which = found.windows.which(rows.time)
        place = _write(rows, which, encoder, writers)
        if histories is not None:
            ids = encoder.events(rows.columns)
            histories.add(user=rows.user, time=rows.time, row_id=rows.row_id, split=which, place=place, ids=ids)
    if histories is not None:
        histories.finish({split: writer.arrays["past"] for split, writer in writers.items()})
        events = {name: np.load(out / "events" / f"{name}.npy", mmap_mode="r") for name in ("time", "user")}
        for split, writer in writers.items():
            past, time, user = (writer.arrays[name] for name in ("past", "time", "user"))
            check_point_in_time(past, time, user, events["time"], events["user"], f"{log.source}: {SPLITS[split]}")
    for writer in writers.values():
        for array in writer.arrays.values():
            array.flush()


def _write(rows: RawRows, which: Ints, encoder: Encoder, writers: Mapping[int, _SplitWriter]) -> Ints:
    ids, dense = encoder.now(rows.columns)
    names = ("label", "row_id", "time", "user", "request")
    values = {"ids": ids, "dense": dense, **{name: getattr(rows, name) for name in names}}
    place = np.full(len(which), -1, dtype=np.int64)
    for split, writer in writers.items():
        inside = which == split
        place[inside] = writer.add(values, inside)[inside]
    return place

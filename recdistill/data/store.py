"""The store of encoded rows, memory-mapped: a record per row, so that a random row costs one look into memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.data.encoder import Encoder
from recdistill.types import Layout

Ints = NDArray[np.int64]
Records = NDArray[np.void]
ROWS = "rows.npy"


def record_type(
    num_ids: int, num_dense: int, id_rows: int = 2**31, *, past: bool = True, num_tasks: int = 0
) -> np.dtype[np.void]:
    """One row, its widest fields first, so that all are aligned. id_rows: of the largest table that an id reads.

    past: whether it has [start, end) among the events. num_tasks: labels beside data.label.
    """
    fields: list[tuple[Any, ...]] = [(name, "<i8") for name in ("row_id", "time", "user", "request")]
    fields += [("past", "<i8", (2,))] if past else []
    fields += [("label", "<f4"), ("offset", "<f4"), ("tasks", "<f4", (num_tasks,)), ("dense", "<f4", (num_dense,))]
    fields += [("ids", "<u2" if id_rows <= 2**16 else "<i4", (num_ids,))]
    kept = [field for field in fields if field[2:] != ((0,),)]
    padding = -np.dtype(kept).itemsize % 8
    return np.dtype(kept + ([("_", f"V{padding}")] if padding else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """One window of the store. records: [N] of record_type; events: feature -> [E] int32 ids of all past events."""

    layout: Layout
    records: Records
    events: dict[str, NDArray[np.int32]]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """[N] label, offset (float32), user, request, row_id, time (int64), past [N, 2] or tasks: a view of records."""
        return self.records[name]

    def take(self, index: Ints) -> Records:
        """[n] copies of the records at these places."""
        words = self.records.view(np.int64).reshape(len(self.records), self.records.itemsize // 8)
        return np.take(words, index, axis=0, mode="clip").view(self.records.dtype).reshape(-1)

    def ids(self, index: Ints) -> Ints:
        """[n, K] ids of the rows at these places, histories newest first and 0-padded."""
        return self.ids_of(self.take(index))

    def dense(self, index: Ints) -> NDArray[np.float32]:
        """[n, D] scaled numbers of the rows at these places."""
        return self.dense_of(self.take(index))

    def ids_of(self, records: Records) -> Ints:
        """[n, K] ids of records."""
        histories = self.layout.histories
        if not histories:
            return records["ids"].astype(np.int64)
        out = np.zeros((len(records), self.layout.num_id_columns), dtype=np.int64)
        if "ids" in (records.dtype.names or ()):
            out[:, : records["ids"].shape[1]] = records["ids"]
        start, end = records["past"].T
        steps = np.arange(max(feature.width for feature in histories))
        event = end[:, None] - 1 - steps
        inside = event >= start[:, None]
        event *= inside
        for feature in histories:
            width = feature.width
            if len(self.events[feature.name]):
                found = np.take(self.events[feature.name], event[:, :width], mode="clip")
                np.multiply(found, inside[:, :width], out=out[:, feature.columns])
        return out

    def tasks_of(self, records: Records) -> NDArray[np.float32] | None:
        """[n, M] labels of all tasks, data.label's first, NaN where a row has none; None where that is the only one."""
        if "tasks" not in (records.dtype.names or ()):
            return None
        return np.column_stack([records["label"], records["tasks"]])

    def dense_of(self, records: Records) -> NDArray[np.float32]:
        """[n, D] scaled numbers of records."""
        if not self.layout.dense:
            return np.zeros((len(records), 0), dtype=np.float32)
        return np.ascontiguousarray(records["dense"])


def open_rows(folder: Path, split: str, layout: Layout | None = None) -> Rows:
    """A window ("train", "valid" or "test") of what the prepare step wrote to `folder`."""
    layout = layout or Encoder.open(folder / "encoder").layout
    records = np.load(folder / "rows" / split / ROWS, mmap_mode="r")
    names = [feature.name for feature in layout.histories]
    events = {name: np.load(folder / "events" / f"{name}.npy", mmap_mode="r") for name in names}
    return Rows(layout=layout, records=records, events=events)

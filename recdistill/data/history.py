"""Each user's events, stored once in order, and for every row where its own past ends: strictly before its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recdistill.data.buckets import Buckets, groups, known_before
from recdistill.data.npy import NpyWriter
from recdistill.problems import BadInput, problem

Ints = NDArray[np.int64]


class HistoryWriter:
    """Takes rows in any order, keeps users together in buckets on disk, and sorts one bucket at a time.

    So its memory is that of one bucket (about two million rows), however long the log; a user with more rows than that
    needs as much as they are. delay: microseconds after which an event is known.
    """

    def __init__(self, folder: Path, names: Sequence[str], num_rows: int, delay: int = 0) -> None:
        self.folder, self.names, self.delay = folder, list(names), delay
        folder.mkdir(parents=True)
        fields = [("user", "<i8"), ("time", "<i8"), ("slot", "<i8"), ("event", "<i1")]
        self.buckets = Buckets(folder, fields + [(name, "<i4") for name in names], num_rows)

    def add(
        self, *, user: Ints, time: Ints, slot: Ints, event: NDArray[np.bool_], ids: Mapping[str, NDArray[np.int32]]
    ) -> None:
        """[n] rows. slot: the row's number among all, ascending in the order of the log; event: whether it is one."""
        self.buckets.add("user", {"user": user, "time": time, "slot": slot, "event": event, **ids})

    def finish(self, past: NDArray[np.int64]) -> None:
        """Write time.npy, user.npy and an .npy of ids per name; fill past[slot] = (start, end) of the row's past."""
        kinds = {name: np.dtype("<i4") for name in self.names} | {n: np.dtype("<i8") for n in ("time", "user")}
        files = {name: NpyWriter(self.folder / f"{name}.npy", kind) for name, kind in kinds.items()}
        offset = 0
        for rows in self.buckets.sorted(("slot", "time", "user")):
            start = groups(rows["user"])
            end = known_before(start, rows["time"], rows["time"] - self.delay)
            event = rows["event"].astype(bool)
            before = np.concatenate([[0], np.cumsum(event)])
            past[rows["slot"]] = np.stack([before[start], before[end]], axis=1) + offset
            kept = rows if event.all() else rows[event]
            for name, file in files.items():
                file.add(kept[name])
            offset += len(kept)
        for file in files.values():
            file.close()


def check_point_in_time(
    past: NDArray[np.int64], row_time: Ints, row_user: Ints, event_time: Ints, event_user: Ints, where: str
) -> None:
    """BadInput where a row's history holds an event of its own instant, of its future or of another user."""
    has = past[:, 1] > past[:, 0]
    last, first = past[has, 1] - 1, past[has, 0]
    late = event_time[last] >= row_time[has]
    foreign = (event_user[last] != row_user[has]) | (event_user[first] != row_user[has])
    if late.any() or foreign.any():
        found = f"{int(late.sum())} rows that see their own time or later, {int(foreign.sum())} that see another user"
        remedy = "the events are not sorted as written; prepare again"
        raise BadInput(
            problem(f"{where}: history", wanted="events strictly before each row", found=found, remedy=remedy)
        )

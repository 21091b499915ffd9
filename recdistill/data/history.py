"""Each user's events, stored once in order, and for every row where its own past ends: strictly before its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recdistill.problems import BadInput, problem

ROWS_PER_BUCKET = 2_000_000
_EVENT = [("user", "<i8"), ("time", "<i8"), ("row_id", "<i8"), ("split", "<i1"), ("place", "<i8")]

Ints = NDArray[np.int64]


class HistoryWriter:
    """Takes events in any order, keeps users together in buckets on disk, and sorts one bucket at a time.

    So its memory is that of one bucket (about two million events), however long the log; a user with more events than
    that needs as much as they are.
    """

    def __init__(self, folder: Path, names: Sequence[str], num_events: int) -> None:
        self.folder, self.names, self.num_events = folder, list(names), num_events
        self.kind = np.dtype(_EVENT + [(name, "<i4") for name in names])
        self.num_buckets = max(1, -(-num_events // ROWS_PER_BUCKET))
        folder.mkdir(parents=True)
        self.files = [(folder / f"bucket-{b}").open("w+b") for b in range(self.num_buckets)]

    def add(
        self,
        *,
        user: Ints,
        time: Ints,
        row_id: Ints,
        split: Ints,
        place: Ints,
        ids: Mapping[str, NDArray[np.int32]],
    ) -> None:
        """[n] events. place: the row's line in its split's matrices, where its pointer goes; -1 for no row."""
        events = np.empty(len(user), dtype=self.kind)
        fixed = {"user": user, "time": time, "row_id": row_id, "split": split, "place": place}
        for name, values in {**fixed, **ids}.items():
            events[name] = values
        bucket = user.view(np.uint64) % np.uint64(self.num_buckets)
        for b, file in enumerate(self.files):
            events[bucket == b].tofile(file)

    def finish(self, pointers: Mapping[int, NDArray[np.int64]]) -> None:
        """Write time.npy, user.npy, an .npy of ids per name; fill pointers[split][place] = (start, end) of the past."""
        out = {name: self._matrix(name, np.int32) for name in self.names}
        out |= {name: self._matrix(name, np.int64) for name in ("time", "user")}
        offset = 0
        for file in self.files:
            file.seek(0)
            events = np.fromfile(file, dtype=self.kind)
            events = events[np.lexsort((events["row_id"], events["time"], events["user"]))]
            for name, matrix in out.items():
                matrix[offset : offset + len(events)] = events[name]
            start, end = _pasts(events["user"], events["time"])
            for split, pointer in pointers.items():
                rows = (events["split"] == split) & (events["place"] >= 0)
                pointer[events["place"][rows]] = np.stack([start[rows], end[rows]], axis=1) + offset
            offset += len(events)
            file.close()
            Path(file.name).unlink()
        assert offset == self.num_events, f"{offset} events came, {self.num_events} were announced"

    def _matrix(self, name: str, kind: type) -> np.memmap:
        path = self.folder / f"{name}.npy"
        return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(self.num_events,))


def _pasts(user: Ints, time: Ints) -> tuple[Ints, Ints]:
    """For events sorted by user and time: [start, end) of the same user's events of earlier instants.

    >>> start, end = _pasts(np.array([1, 1, 1, 2]), np.array([5, 7, 7, 1]))
    >>> start.tolist(), end.tolist()  # the two events at 7 do not see each other
    ([0, 0, 0, 3], [0, 1, 1, 3])
    """
    if not len(user):
        return user, user
    number = np.arange(len(user))
    new_user = np.r_[True, user[1:] != user[:-1]]
    new_instant = new_user | np.r_[True, time[1:] != time[:-1]]
    start = np.maximum.accumulate(np.where(new_user, number, 0))
    end = np.maximum.accumulate(np.where(new_instant, number, 0))
    return start, end


def check_point_in_time(
    pointer: NDArray[np.int64], row_time: Ints, row_user: Ints, event_time: Ints, event_user: Ints, where: str
) -> None:
    """BadInput where a row's history holds an event of its own instant, of its future or of another user."""
    has = pointer[:, 1] > pointer[:, 0]
    last, first = pointer[has, 1] - 1, pointer[has, 0]
    late = event_time[last] >= row_time[has]
    foreign = (event_user[last] != row_user[has]) | (event_user[first] != row_user[has])
    if late.any() or foreign.any():
        found = f"{int(late.sum())} rows that see their own time or later, {int(foreign.sum())} that see another user"
        remedy = "the events are not sorted as written; prepare again"
        raise BadInput(
            problem(f"{where}: history", wanted="events strictly before each row", found=found, remedy=remedy)
        )

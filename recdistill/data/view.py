"""The rows of a run out of its parts: those that take part, each with its window in time and its slot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.config.data import Data
from recdistill.data.negatives.sampled import kept
from recdistill.data.raw import data_window
from recdistill.data.segment import Part, Segment
from recdistill.data.split import NOWHERE, Which, Windows, windows

Ints = NDArray[np.int64]
Dropped = Mapping[int, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The rows of a segment that take part. rows: their places in it, None for all. first_slot: of the first of them.

    which: [n] 0, 1, 2 for train, valid, test, -1 for rows that are only events of the past.
    """

    segment: Segment
    rows: Ints | None
    which: Which
    first_slot: int

    def __len__(self) -> int:
        return len(self.which)

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """The segment's array, cut to the rows that take part."""
        return _of(array, self.rows)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.of(self.segment[name])

    @property
    def slots(self) -> Ints:
        """[n] the rows' numbers among all that take part."""
        return np.arange(self.first_slot, self.first_slot + len(self))

    @property
    def happened(self) -> NDArray[np.bool_]:
        """[n] whether a row is an event; a drawn negative is not."""
        found = self.segment.happened
        return np.ones(len(self), dtype=bool) if found is None else self.of(found)

    @property
    def whole(self) -> bool:
        """Whether all rows of the segment take part."""
        return self.rows is None

    @property
    def train(self) -> NDArray[np.bool_]:
        return self.which == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All parts of a run. dropped: number of a segment -> which of its rows are left out beside those in quarantine."""

    data: Data
    seed: int
    parts: Sequence[Part]
    dropped: Dropped
    windows: Windows

    def slices(self) -> Iterator[Slice]:
        """In the order of the log."""
        first_slot = 0
        for number, segment in enumerate(segments(self.parts)):
            rows = _inside(self.data, segment, self.dropped.get(number), self.windows.end)
            piece = Slice(segment=segment, rows=rows, which=self._which(segment, rows), first_slot=first_slot)
            yield piece
            first_slot += len(piece)

    def _which(self, segment: Segment, rows: Ints | None) -> Which:
        alone = self.windows.alone(*segment.span)
        if alone is None:
            which = self.windows.which(_of(segment["time"], rows))
        else:
            which = np.full(len(segment) if rows is None else len(rows), alone, dtype=np.int8)
        if self.data.keep_negatives == 1:
            return which
        row_id, label = _of(segment.row_id, rows), _of(segment["label"], rows)
        stays = kept(row_id, label, self.data.keep_negatives, self.seed)
        return np.where((which == 0) & ~stays, np.int8(NOWHERE), which)


def open_view(data: Data, seed: int, parts: Sequence[Part], dropped: Dropped) -> View:
    """The parts with their windows cut. BadInput for empty windows."""

    def times() -> Iterator[Ints]:
        for number, segment in enumerate(segments(parts)):
            yield _of(segment["time"], _inside(data, segment, dropped.get(number)))

    return View(data=data, seed=seed, parts=parts, dropped=dropped, windows=windows(times, data.split))


def segments(parts: Sequence[Part]) -> Iterator[Segment]:
    """All segments of all parts, in the order of the log."""
    for part in parts:
        yield from part.segments()


def _of(array: NDArray[Any], rows: Ints | None) -> NDArray[Any]:
    return array if rows is None else array[rows]


def _inside(data: Data, segment: Segment, dropped: NDArray[np.bool_] | None, until: int = 2**63 - 1) -> Ints | None:
    """Places of the rows that take part, of those before `until`; None where all do."""
    (low, high), (start, end) = segment.span, data_window(data)
    if dropped is None and start <= low and high < min(end, until):
        return None
    time = segment["time"]
    inside = (time >= start) & (time < min(end, until))
    rows = np.flatnonzero(inside if dropped is None else inside & ~dropped)
    return None if len(rows) == len(time) else rows

"""Store -> Batch stream: shuffled by rows or by whole requests, shared out over ranks, from any position on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recdistill.data.scores import StoredScores
from recdistill.data.shuffle import Permutation
from recdistill.data.store import Rows
from recdistill.data.tables import splitmix
from recdistill.types import Batch

Ints = NDArray[np.int64]
_AHEAD = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a stream stands: `batch` batches of an epoch are done. With the stream's settings it is its whole state."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """An endless source of epochs over a window.

    shuffle: "rows" draws rows alone; "requests" keeps the rows of a request in one batch, whose size then varies around
    batch_size and exceeds it only for a request larger than that; None keeps the order of the store.
    teacher: stored scores in the order of the store; None where no teacher takes part.
    among: the places [n] of the rows that take part; None for all.
    rank, world: which of how many readers this one is; of every batch_size * world rows each reads its own.
    """

    rows: Rows
    batch_size: int
    shuffle: Literal["rows", "requests"] | None = None
    seed: int = 0
    teacher: StoredScores | None = None
    among: Ints | None = None
    rank: int = 0
    world: int = 1

    @property
    def num_rows(self) -> int:
        """Rows of an epoch, over all readers."""
        return len(self.rows) if self.among is None else len(self.among)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Every row once over all ranks, from batch `first` on: the same for the same seed and epoch."""
        for index in self._indices(number, first):
            yield self.batch(index if self.among is None else self.among[index])

    def stream(self, position: Position) -> Iterator[tuple[Position, Batch]]:
        """Batches without end from a position on, each with the position after it; none where there are no rows."""
        epoch, done = position.epoch, position.batch
        while True:
            given = False
            for batch in self.epoch(epoch, done):
                done, given = done + 1, True
                yield Position(epoch=epoch, batch=done), batch
            if not given and not done:
                return  # this rank has no rows at all
            epoch, done = epoch + 1, 0

    def batch(self, index: Ints) -> Batch:
        """The rows at these places of the store."""
        rows, records = self.rows, self.rows.take(index)
        tasks = rows.tasks_of(records)
        return Batch(
            ids=torch.from_numpy(rows.ids_of(records)),
            dense=torch.from_numpy(rows.dense_of(records)),
            label=_tensor(records, "label"),
            weight=torch.ones(len(index)),
            offset=_tensor(records, "offset"),
            request=_tensor(records, "request"),
            row_id=_tensor(records, "row_id"),
            teacher=None if self.teacher is None else self.teacher.at(index),
            tasks=None if tasks is None else torch.from_numpy(tasks),
        )

    def _indices(self, number: int, first: int) -> Iterator[Ints]:
        if self.shuffle == "requests":
            generator = np.random.default_rng([self.seed, number])
            request = self.rows["request"] if self.among is None else self.rows["request"][self.among]
            batches = _whole_requests(request, self.batch_size, generator)
            for place, index in enumerate(batches):
                if place % self.world == self.rank and place // self.world >= first:
                    yield index
            return
        num_rows, step = self.num_rows, self.batch_size * self.world
        key = int(splitmix(np.array([self.seed * 1_000_003 + number], dtype=np.uint64))[0])
        order = Permutation(num=num_rows, key=key)
        for start in range(first * step, num_rows, step * _AHEAD):  # the order of several batches costs what one's does
            places = np.arange(start + self.rank, min(start + step * _AHEAD, num_rows), self.world)
            index = order(places) if self.shuffle == "rows" else places
            for begin in range(0, len(index), self.batch_size):
                yield index[begin : begin + self.batch_size]


def _tensor(records: NDArray[np.void], name: str) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(records[name]))


def _whole_requests(request: Ints, batch_size: int, generator: np.random.Generator) -> Iterator[Ints]:
    """Requests in random order, packed until the next one would not fit."""
    _, line, sizes = np.unique(request, return_inverse=True, return_counts=True)
    rows = np.argsort(line, kind="stable")
    starts = np.cumsum(sizes) - sizes
    held: list[Ints] = []
    num_held = 0
    for g in generator.permutation(len(sizes)):
        if held and num_held + sizes[g] > batch_size:
            yield np.concatenate(held)
            held, num_held = [], 0
        held.append(rows[starts[g] : starts[g] + sizes[g]])
        num_held += int(sizes[g])
    if held:
        yield np.concatenate(held)

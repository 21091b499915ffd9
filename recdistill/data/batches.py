"""Store -> Batch stream: shuffled by rows or by whole requests, the same for the same seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recdistill.data.store import Rows
from recdistill.types import Batch, Scores

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """An endless source of epochs over a window.

    shuffle: "rows" draws rows alone; "requests" keeps the rows of a request in one batch, whose size then varies around
    batch_size and exceeds it only for a request larger than that; None keeps the order of the store.
    teacher: [N] float32 logits in the order of the store; None where no teacher takes part.
    """

    rows: Rows
    batch_size: int
    shuffle: Literal["rows", "requests"] | None = None
    seed: int = 0
    teacher: NDArray[np.float32] | None = None

    def epoch(self, number: int) -> Iterator[Batch]:
        """Every row once."""
        for index in self._indices(np.random.default_rng([self.seed, number])):
            yield self.batch(index)

    def batch(self, index: Ints) -> Batch:
        """The rows at these places of the store."""
        rows = self.rows
        teacher = None if self.teacher is None else Scores(logit=torch.from_numpy(self.teacher[index]))
        return Batch(
            ids=torch.from_numpy(rows.ids(index)),
            dense=torch.from_numpy(rows.dense(index)),
            label=torch.from_numpy(rows["label"][index]),
            weight=torch.ones(len(index)),
            request=torch.from_numpy(rows["request"][index]),
            row_id=torch.from_numpy(rows["row_id"][index]),
            teacher=teacher,
        )

    def _indices(self, generator: np.random.Generator) -> Iterator[Ints]:
        num_rows = len(self.rows)
        if self.shuffle == "requests":
            yield from _whole_requests(self.rows["request"], self.batch_size, generator)
            return
        order = generator.permutation(num_rows) if self.shuffle == "rows" else np.arange(num_rows)
        for start in range(0, num_rows, self.batch_size):
            yield order[start : start + self.batch_size]


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

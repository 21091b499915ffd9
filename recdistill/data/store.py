"""The store of encoded rows, memory-mapped: any rows of a window as the two matrices, histories gathered on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.data.encoder import Encoder
from recdistill.types import Layout

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """One window of the store. label: [N] float32; user, request, row_id, time: [N] int64."""

    layout: Layout
    arrays: dict[str, NDArray[Any]]
    events: dict[str, NDArray[np.int32]]

    def __len__(self) -> int:
        return len(self.arrays["row_id"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def ids(self, index: Ints) -> Ints:
        """[n, K] ids of the rows at these places, histories newest first and 0-padded."""
        now = self.arrays["ids"][index]
        out = np.zeros((len(index), self.layout.num_id_columns), dtype=np.int64)
        out[:, : now.shape[1]] = now
        histories = self.layout.histories
        if histories:
            start, end = self.arrays["past"][index].T
            steps = np.arange(max(feature.width for feature in histories))
            event = end[:, None] - 1 - steps
            inside = event >= start[:, None]
            event = np.where(inside, event, 0)
        for feature in histories:
            width = feature.width
            out[:, feature.columns] = self.events[feature.name][event[:, :width]] * inside[:, :width]
        return out

    def dense(self, index: Ints) -> NDArray[np.float32]:
        """[n, D] scaled numbers of the rows at these places."""
        if not self.layout.dense:
            return np.zeros((len(index), 0), dtype=np.float32)
        found: NDArray[np.float32] = self.arrays["dense"][index]
        return found


def open_rows(folder: Path, split: str, layout: Layout | None = None) -> Rows:
    """A window ("train", "valid" or "test") of what the prepare step wrote to `folder`."""
    layout = layout or Encoder.open(folder / "encoder").layout
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted((folder / "rows" / split).glob("*.npy"))}
    names = [feature.name for feature in layout.histories]
    events = {name: np.load(folder / "events" / f"{name}.npy", mmap_mode="r") for name in names}
    return Rows(layout=layout, arrays=arrays, events=events)

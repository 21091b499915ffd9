"""Means of the losses and the speed of training since the last check, without a sync on every step."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from recdistill.train.engine.ranks import total


class Meter:
    """Row-weighted means of named losses over all ranks."""

    def __init__(self, world: int = 1) -> None:
        self.world = world
        self.reset()

    def reset(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.rows = self.untold = 0
        self.timed, self.began = 0, time.perf_counter()

    def add(self, named: Mapping[str, Tensor], num_rows: int) -> None:
        """Losses of a step, each a mean over this rank's rows; num_rows is 0 where they do not count."""
        for name, value in named.items():
            part = value.detach() * num_rows
            self.sums[name] = self.sums[name] + part if name in self.sums else part
        self.rows += num_rows
        self.untold += num_rows
        self.timed += num_rows

    def take(self) -> int:
        """Rows since the last call."""
        untold, self.untold = self.untold, 0
        return untold

    def mean(self, name: str) -> float:
        """Of one loss on this rank so far, 0 before it had a row; waits for the device."""
        return float(self.sums[name]) / max(self.rows, 1)

    @property
    def rows_per_s(self) -> float:
        """Of this rank."""
        return self.timed / (time.perf_counter() - self.began)

    def means(self) -> dict[str, float]:
        """Of all losses over all ranks; every rank has to ask."""
        rows = total(self.rows, self.world)
        return {name: total(float(value), self.world) / rows for name, value in self.sums.items()}

    def tensors(self) -> dict[str, Tensor]:
        """What a training that goes on from here has to know."""
        return {"rows": torch.tensor(self.rows), **{f"sum.{name}": value for name, value in self.sums.items()}}

    def load(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Go on from what `tensors` told; without any, begin anew."""
        self.reset()
        if tensors:
            self.rows = int(tensors["rows"])
            self.sums = {name[4:]: value.to(device) for name, value in tensors.items() if name.startswith("sum.")}

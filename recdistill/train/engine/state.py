"""All that a training goes on from, beside the model's weights: how far it is, optimisers, means, random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recdistill.train.engine.course import Course
from recdistill.train.engine.meter import Meter
from recdistill.train.engine.pieces import Piece, Stored, pieces
from recdistill.train.engine.progressive import Progressive
from recdistill.train.engine.update import Update


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """progressive: the running AUC of a training in one pass; None in any other."""

    course: Course
    update: Update
    meter: Meter
    progressive: Progressive | None = None

    def pieces(self, rank: int) -> list[Piece]:
        """Views of live memory, but for what is different on every rank, which is copied."""
        own = [piece.owned() for name, held in self._own() for piece in pieces(held, f"rank{rank}.{name}.")]
        return [*self.update.pieces(), *own]

    def _own(self) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        yield "random", _random()
        yield "meter", self.meter.tensors()
        if self.progressive is not None:
            yield "progressive", self.progressive.tensors()

    def load(self, stored: Stored, rank: int, device: torch.device) -> None:
        """Put all back but the course. A rank that did not take part begins its means and random numbers anew."""
        self.update.load(stored, self.course.step)
        own = {name: stored.wholes(f"rank{rank}.{name}.") for name in ("random", "meter", "progressive")}
        self.meter.load(own["meter"], device)
        if self.progressive is not None and own["progressive"]:
            self.progressive.load(own["progressive"])
        if own["random"]:
            _put_random(own["random"])


def _random() -> dict[str, Tensor]:
    cuda = torch.cuda.is_initialized()
    return {"cpu": torch.get_rng_state(), **({"cuda": torch.cuda.get_rng_state()} if cuda else {})}


def _put_random(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(states["cuda"])

"""What the processes of one training agree on: as many steps on each, and decisions that all of them take alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from recdistill.data.batches import Batches, Position
from recdistill.train.engine.feed import feed
from recdistill.types import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What this process does in one step. position: after it. num_rows: of all processes together.

    share: what the mean over this process's rows has to be multiplied by, so that the mean over processes is that over
    rows; 0 where this process has no rows left and takes part with one that does not count.
    """

    position: Position
    batch: Batch
    num_rows: int
    share: float


def turns(batches: Batches, position: Position) -> Iterator[Turn]:
    """Steps without end from a position on, as many on every rank; none where there are no rows."""
    epoch, done = position.epoch, position.batch
    world, whole = batches.world, batches.batch_size * batches.world
    num_rows, device = batches.num_rows, _device()
    assert world == 1 or batches.shuffle != "requests", "whole requests are only known by who reads them"
    while num_rows:
        for batch in feed(batches.epoch(epoch, done), device):
            together = len(batch) if world == 1 else min(whole, num_rows - done * whole)
            done += 1
            share = len(batch) * world / together
            yield Turn(position=Position(epoch=epoch, batch=done), batch=batch, num_rows=together, share=share)
        if world > 1 and done * whole < num_rows:
            idle = batches.batch(np.zeros(1, np.int64))
            left = num_rows - done * whole
            yield Turn(position=Position(epoch=epoch, batch=done + 1), batch=idle, num_rows=left, share=0.0)
        epoch, done = epoch + 1, 0


def any_of(flag: bool, world: int) -> bool:
    """Whether it is so on any rank; every rank has to ask."""
    return total(float(flag), world) > 0


def total(value: float, world: int) -> float:
    """The sum over ranks; every rank has to ask."""
    if world == 1:
        return value
    summed = torch.tensor(value, dtype=torch.float64, device=_device())
    dist.all_reduce(summed)
    return float(summed)


def of_first(value: float, world: int) -> float:
    """Rank 0's value; every rank has to ask."""
    if world == 1:
        return value
    said = torch.tensor(value, dtype=torch.float64, device=_device())
    dist.broadcast(said, 0)
    return float(said)


def _device() -> torch.device:
    on_cuda = dist.is_initialized() and dist.get_backend() == "nccl"
    return torch.device("cuda" if on_cuda else "cpu")

"""Real training steps, one at a time, for whoever wants to know how fast they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

import torch
from torch import nn

from recdistill.config_teacher import Teacher
from recdistill.data.batches import Batches, Position
from recdistill.data.store import Rows
from recdistill.train.fit import build_teacher, losses_of, sharded_teacher
from recdistill.train.optimisers import dense_optimiser
from recdistill.train.ranks import turns
from recdistill.train.shard import World, dense_parameters
from recdistill.train.update import Update


def training(settings: Teacher, rows: Rows, world: World, seed: int) -> tuple[nn.Module, Iterator[int]]:
    """A teacher with fresh weights, and its steps without end: each item is how many rows one step learnt from.

    What the training loop does in a step, without its checks, snapshots and guards. Of several ranks, each has its part
    of every batch, and the rows are those of all.
    """
    torch.manual_seed(seed)
    model = sharded_teacher(build_teacher(settings, rows.layout), settings, world.device)
    dense = dense_optimiser(settings.optimiser, dense_parameters(model), settings.learning_rate)
    batches = Batches(
        rows=rows,
        batch_size=settings.batch_size // world.size,
        shuffle="rows",
        seed=seed,
        rank=world.rank,
        world=world.size,
    )
    return model, _steps(model, settings, batches, Update(settings, [dense, model.fused_optimizer]), world.device)


def _steps(
    model: nn.Module, settings: Teacher, batches: Batches, update: Update, device: torch.device
) -> Iterator[int]:
    losses = losses_of(model, settings, device)
    for turn in turns(batches, Position()):
        loss = losses(turn.batch, 0.5)["loss"]
        update(loss * turn.share, progress=0.5, scale=1.0)
        yield turn.num_rows


def seconds(steps: Iterator[int], num: int, device: torch.device) -> float:
    """How long so many steps take, the device's own work included."""
    began = time.perf_counter()
    assert len(list(islice(steps, num))) == num, "rows"
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began

"""Real training steps, one at a time, for whoever wants to know how fast they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from recdistill.config.teacher import Teacher
from recdistill.data.batches import Batches, Position
from recdistill.data.store import Rows
from recdistill.train.device import use_bf16
from recdistill.train.engine.ranks import turns
from recdistill.train.engine.update import Update
from recdistill.train.predict import ROWS_PER_PASS, predict
from recdistill.train.teachers.fit import build_teacher, losses_of, sharded_teacher
from recdistill.train.teachers.optimisers import dense_optimiser
from recdistill.train.teachers.shard import World, dense_parameters


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


def pace(steps: Iterator[int], num: int, device: torch.device) -> tuple[int, float]:
    """Rows learnt from in so many steps, and the seconds that took, the device's own work included."""
    began = time.perf_counter()
    rows = list(islice(steps, num))
    assert len(rows) == num, "a window without rows"
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return sum(rows), time.perf_counter() - began


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Rows per second on this machine, in one process, over so many training steps."""

    train_rows_per_s: float
    score_rows_per_s: float
    num_steps: int


def speed_of(settings: Teacher, rows: Rows, world: World, seed: int, lasting_s: float = 3.0) -> Speed:
    """Train for about so many seconds after two steps that set everything up, then score two passes of rows."""
    model, steps = training(settings, rows, world, seed)
    pace(steps, 2, world.device)
    _, one_s = pace(steps, 1, world.device)
    num_steps = max(2, round(lasting_s / one_s))
    num_rows, train_s = pace(steps, num_steps, world.device)
    some = Rows(layout=rows.layout, records=rows.records[: 2 * ROWS_PER_PASS], events=rows.events)
    with torch.autocast(world.device.type, torch.bfloat16, enabled=use_bf16(settings.bf16, world.device)):
        predict(model, some, world.device)
        began = time.perf_counter()
        predict(model, some, world.device)
        score_s = time.perf_counter() - began
    return Speed(train_rows_per_s=num_rows / train_s, score_rows_per_s=len(some) / score_s, num_steps=num_steps)

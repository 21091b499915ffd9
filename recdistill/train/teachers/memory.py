"""What takes the memory of a training, told where it ran out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from recdistill.config.teacher import EmbeddingOptimiser, Teacher
from recdistill.problems import BadInput, problem
from recdistill.types import Layout

_MIB = 2**20
_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory")
REMEDY = "make teacher.batch_size, teacher.width or the largest table smaller, or use teacher.accumulate or more ranks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a part of a training takes on all ranks together. what: for a person."""

    what: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.what}: {self.bytes / _MIB:,.0f} MiB"


def state_bytes(optimiser: EmbeddingOptimiser, width: int) -> int:
    """What a fused optimiser remembers of one row of a table this wide."""
    floats = {
        "rowwise_adagrad": 1,
        "adagrad": width,
        "sgd": 0,
        "adam": 2 * width,
        "partial_rowwise_adam": width + 1,
    }
    return 4 * floats[optimiser]


def needs(settings: Teacher, layout: Layout, dense_parameters: int) -> list[Need]:
    """Tables, the largest first, their optimiser's state, and the dense layers with gradients and optimiser."""
    state = state_bytes(settings.embedding_optimiser, settings.width)
    tables = [
        Need(what=f"table {name}, {rows:,} rows of {settings.width}", bytes=rows * settings.width * 4)
        for name, rows in layout.tables.items()
    ]
    total = sum(layout.tables.values())
    copies = 4 if settings.ema is None else 5
    return [
        *sorted(tables, key=lambda need: -need.bytes),
        Need(what=f"state of {settings.embedding_optimiser} of all tables", bytes=total * state),
        Need(what="dense layers, their gradients and optimiser", bytes=dense_parameters * copies * 4),
    ]


@contextmanager
def memory_told(title: str, known: Sequence[Need], batch_rows: int, device: torch.device) -> Iterator[None]:
    """BadInput with what takes the memory, where it runs out within."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if not (isinstance(error, MemoryError) or any(sign in text.lower() for sign in _SIGNS)):
            raise
        rest = max(0, _in_use(device) - sum(need.bytes for need in known))
        last = Need(what=f"all else, activations of {batch_rows:,} rows among it, as far as it got", bytes=rest)
        wanted = (
            f"memory for tables and optimisers of {sum(need.bytes for need in known) / _MIB:,.0f} MiB and for steps"
        )
        first = problem(title, wanted=wanted, found=f"too little on {device} ({text[:160]})", remedy=REMEDY)
        raise BadInput([first, *(f"{title}:   {need}" for need in [*known, last])]) from None


def _in_use(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)

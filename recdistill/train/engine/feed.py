"""Batches made ready for the device while it works on the one before: the same ones, in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from recdistill.data.ahead import ahead
from recdistill.types import Batch


def feed(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """On CUDA, a batch is gathered into pinned memory in a thread, so that its copy to the device waits for nothing.

    It owns no state: the iterator's owner counts the batches that were used. On the CPU it is the iterator itself:
    there the layers keep every core busy already, and a batch costs a thousandth of a step.
    """
    if device.type != "cuda":
        return iter(batches)
    return ahead(map(pinned, batches), threads=2)


def pinned(value: Any) -> Any:
    """The same batch in page-locked memory. Wants CUDA."""
    if isinstance(value, Tensor):
        return value.pin_memory()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: pinned(getattr(value, field.name)) for field in fields(value)})
    return value

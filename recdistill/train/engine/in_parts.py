"""Gradient accumulation for fused tables: one lookup and one update of the whole batch, dense layers part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def compute_in_parts(module: nn.Module, parts: int) -> None:
    """Have a module compute its rows in parts, one after the other, and each again in the backward pass.

    A fused optimiser moves the tables in every backward pass, so several small ones are not one large one. With this,
    there is one, of the whole batch: the step is the same but for rounding, and the memory that activations take is
    that of one part, as in Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost. Its arguments are tensors,
    or dataclasses of tensors, of as many rows; None stays None. What mixes rows (batch norm) sees a part's alone.
    """
    module.forward = _in_parts(module.forward, parts)


def _in_parts(forward: Callable[..., Tensor], parts: int) -> Callable[..., Tensor]:
    def compute(*values: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(*values)
        split = [_split(value, min(parts, _num_rows(values))) for value in values]
        return torch.cat([checkpoint(forward, *part, use_reentrant=False) for part in zip(*split, strict=True)])

    return compute


def _num_rows(values: Sequence[Any]) -> int:
    first = next(value for value in values if value is not None)
    return len(first if isinstance(first, Tensor) else getattr(first, fields(first)[0].name))


def _split(value: Any, parts: int) -> list[Any]:
    """A value in so many pieces along its rows."""
    if isinstance(value, Tensor):
        return list(torch.tensor_split(value, parts))
    if is_dataclass(value) and not isinstance(value, type):
        split = {field.name: _split(getattr(value, field.name), parts) for field in fields(value)}
        return [replace(value, **{name: found[n] for name, found in split.items()}) for n in range(parts)]
    return [value] * parts

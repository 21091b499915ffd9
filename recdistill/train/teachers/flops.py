"""What the dense layers of a teacher cost per row: floating point operations by torch's own count, and memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from recdistill.config.teacher import Teacher
from recdistill.train.device import use_bf16
from recdistill.train.teachers.fit import build_teacher, num_dense_parameters
from recdistill.types import FIRST_KNOWN, Layout

_ROWS = 64
_TABLE = FIRST_KNOWN + 1  # rows: no operation depends on them


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseCost:
    """parameters: of all layers that are no table. forward, training: operations per row of a scoring and of a training
    pass, a product and a sum being two; lookups and elementwise work not among them. activation_bytes: per row, what
    the forward pass keeps for the backward one. hidden: the width of what a score store may keep of it."""

    parameters: int
    forward: int
    training: int
    activation_bytes: int
    hidden: int


def dense_cost(settings: Teacher, layout: Layout, device: torch.device) -> DenseCost:
    """Of a teacher as configured, measured on a few rows with tables of a few rows, on the CPU.

    Number types are those that `device` would train in.
    """
    small = replace(layout, ids=tuple(replace(feature, num_rows=_TABLE) for feature in layout.ids))
    model = build_teacher(settings, small, tables="cpu")
    ids = torch.full((_ROWS, layout.num_id_columns), _TABLE - 1)
    dense = torch.zeros((_ROWS, len(layout.dense)))
    kept: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in model.parameters()}

    def keep(value: Tensor) -> Tensor:
        if value.data_ptr() not in own:
            kept[value.data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autocast("cpu", torch.bfloat16, enabled=use_bf16(settings.bf16, device)):
        with torch.no_grad(), FlopCounterMode(display=False) as forward:
            hidden = model(ids, dense).hidden
        with FlopCounterMode(display=False) as training, saved_tensors_hooks(keep, lambda value: value):
            model(ids, dense).logit.sum().backward()
    return DenseCost(
        parameters=num_dense_parameters(model),
        forward=forward.get_total_flops() // _ROWS,
        training=training.get_total_flops() // _ROWS,
        activation_bytes=sum(kept.values()) // _ROWS,
        hidden=hidden.shape[1],
    )

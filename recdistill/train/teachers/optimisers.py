"""Optimisers by the names they have in a config: fused ones of the tables, ordinary ones of the dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchrec import optim as fused

from recdistill.config.teacher import DenseOptimiser, EmbeddingOptimiser
from recdistill.problems import BadInput, problem

# What FBGEMM 1.8 computes within the backward pass: all of these on CUDA, the first three on a CPU. It has no Lion.
_FUSED: dict[EmbeddingOptimiser, type[torch.optim.Optimizer]] = {
    "rowwise_adagrad": fused.RowWiseAdagrad,
    "adagrad": fused.Adagrad,
    "sgd": fused.SGD,
    "adam": fused.Adam,
    "partial_rowwise_adam": fused.PartialRowWiseAdam,
}
_ON_CPU: tuple[EmbeddingOptimiser, ...] = ("rowwise_adagrad", "adagrad", "sgd")
_DENSE: dict[DenseOptimiser, type[torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def embedding_optimiser(name: EmbeddingOptimiser, device: torch.device) -> type[torch.optim.Optimizer]:
    """The placeholder by which TorchRec knows a fused optimiser. BadInput where the device has no such kernel."""
    if device.type == "cpu" and name not in _ON_CPU:
        where, remedy = "teacher.embedding_optimiser", "take one of these, or a CUDA device"
        wanted = f"one that FBGEMM has on a CPU: {', '.join(_ON_CPU)}"
        raise BadInput(problem(where, wanted=wanted, found=name, remedy=remedy))
    return _FUSED[name]


def dense_optimiser(
    name: DenseOptimiser, parameters: Sequence[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """An optimiser of ordinary gradients, with torch's own settings but for the learning rate."""
    kind: Any = _DENSE[name]
    made: torch.optim.Optimizer = kind(parameters, lr=learning_rate)
    return made

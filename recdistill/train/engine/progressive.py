"""Progressive validation: how well rows were ranked that were scored before they were learnt from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

_BINS = 1 << 14


class Progressive:
    """A running AUC since the last look, over all ranks, in fixed memory and without a sync on every step.

    Logits are counted by the bin of their probability, 16,384 of them; rows of one bin count as tied.
    Source: Blum, Kalai & Langford, Beating the Hold-Out (COLT 1999), section 3, with AUC instead of the error rate.
    """

    def __init__(self, device: torch.device, world: int = 1) -> None:
        self.counts, self.world = torch.zeros((2, _BINS), dtype=torch.int64, device=device), world

    def add(self, logit: Tensor, label: Tensor) -> None:
        """logit, label: [N]; a label above 0.5 is a positive."""
        place = (torch.sigmoid(logit.detach().double()) * _BINS).long().clamp(0, _BINS - 1)
        flat = place + (label > 0.5).long() * _BINS
        self.counts.view(-1).scatter_add_(0, flat, torch.ones_like(flat))

    def take(self) -> float:
        """The AUC since the last call; NaN where one class is missing. Every rank has to ask."""
        counts = self.counts.clone()
        if self.world > 1:
            dist.all_reduce(counts)
        self.counts.zero_()
        negatives, positives = counts.double()
        below = torch.cumsum(negatives, 0) - negatives
        pairs = positives.sum() * negatives.sum()
        return float((positives * (below + negatives / 2)).sum() / pairs)

    def tensors(self) -> dict[str, Tensor]:
        return {"counts": self.counts}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.counts.copy_(tensors["counts"])

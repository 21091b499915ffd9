"""Quotient-remainder table: a value's row is the product of two rows of small tables, and no two values share both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.models.tables.rows import SPREAD


class QuotientRemainder(nn.Module):
    """row(id) = Q[id div m] * R[id mod m], element by element.

    Source: Shi et al., Compositional embeddings using complementary partitions (KDD 2020, arXiv:1909.02107, section 3,
    multiplication, their best). Differs: divided by the spread of fresh rows, so that products start as spread as rows
    of a plain table. quotients: [ceil(V / m), E]. remainders: [m, E].
    """

    def __init__(self, quotients: nn.Module, remainders: nn.Module, num_remainders: int) -> None:
        super().__init__()
        self.quotients = quotients
        self.remainders = remainders
        self.num_remainders = num_remainders

    def forward(self, ids: Tensor) -> Tensor:
        """ids: [...] int64 -> [..., E]."""
        quotient = torch.div(ids, self.num_remainders, rounding_mode="floor")
        product: Tensor = self.quotients(quotient) * self.remainders(torch.remainder(ids, self.num_remainders))
        return product / SPREAD

"""Hashed table: many values, few rows; values that meet share a row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.types import FIRST_KNOWN

_PRIME = 2**31 - 1
_FACTOR, _OFFSET = 1_103_515_245, 12_345


class Hashed(nn.Module):
    """row(id) = ((a id + b) mod p) mod m over the rows that are not absent's or unknown's.

    Source: Carter & Wegman, Universal classes of hash functions (1979); Weinberger et al., ICML 2009, for the trick.
    Differs: no second hash gives a sign, as a row is learned and not a count. rows: [m + 2, E], the first two apart.
    """

    def __init__(self, rows: nn.Module, num_rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.num_hashed = num_rows - FIRST_KNOWN

    def forward(self, ids: Tensor) -> Tensor:
        """ids: [...] int64 -> [..., E]."""
        found: Tensor = self.rows(self.place(ids))
        return found

    def place(self, ids: Tensor) -> Tensor:
        """[...] int64 rows of ids; those of absent and unknown are their own.

        >>> Hashed(nn.Embedding(7, 1), 7).place(torch.tensor([0, 1, 2, 3, 4])).tolist()
        [0, 1, 5, 5, 3]
        """
        hashed = torch.remainder(torch.remainder(ids * _FACTOR + _OFFSET, _PRIME), self.num_hashed) + FIRST_KNOWN
        return torch.where(ids < FIRST_KNOWN, ids, hashed)

"""Mixed-dimension table: frequent values have wide rows, rare ones narrow rows and a projection to the common width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MixedDimension(nn.Module):
    """Values ranked by frequency, cut into blocks; block b has rows of width d_b and a matrix to the common width.

    row(id) = E_b[rank(id) - start_b] P_b,    P_0 = 1

    Source: Ginart et al., Mixed dimension embeddings (ISIT 2021, arXiv:1909.11810, section 3). Costs, beside the rows,
    a rank of 2 or 4 bytes a value, because ids are in the order of the values. starts: of the blocks, the first 0.
    """

    rank: Tensor

    def __init__(self, rank: Tensor, starts: Sequence[int], rows: Sequence[nn.Module], widths: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("rank", rank)
        self.starts = tuple(starts)
        self.rows = nn.ModuleList(rows)
        common = widths[0]
        self.wider = nn.ModuleList(nn.Linear(width, common, bias=False) for width in widths[1:])
        for linear, width in zip(self.wider, widths[1:], strict=True):
            assert isinstance(linear, nn.Linear)
            nn.init.normal_(linear.weight, std=width**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """ids: [...] int64 -> [..., E]."""
        rank = self.rank.index_select(0, ids.reshape(-1)).to(torch.int64).reshape(ids.shape)
        ends = [*self.starts[1:], len(self.rank)]
        total: Tensor | None = None
        for place, (start, end, rows) in enumerate(zip(self.starts, ends, self.rows, strict=True)):
            found = rows((rank - start).clamp(0, end - start - 1))
            found = found if place == 0 else self.wider[place - 1](found)
            here = ((rank >= start) & (rank < end)).to(found.dtype).unsqueeze(-1)
            total = found * here if total is None else total + found * here
        assert total is not None
        return total


def cut(counts: Tensor, blocks: int) -> list[int]:
    """Where each block starts among counts in descending order: blocks hold about equal shares of all look-ups.

    Never an empty block, so there may be fewer than asked for.

    >>> cut(torch.tensor([6, 3, 2, 1, 0, 0]), 3)
    [0, 1, 2]
    """
    shares = torch.cumsum(counts.double(), dim=0) / max(int(counts.sum()), 1)
    starts = [0]
    for block in range(1, blocks):
        start = int(torch.searchsorted(shares, block / blocks - 1e-9)) + 1
        if starts[-1] < start < len(counts):
            starts.append(start)
    return starts


def widths(counts: Tensor, starts: Sequence[int], width: int, temperature: float) -> list[int]:
    """Of each block: width * (p_b / p_0)^temperature with p_b its mean frequency; at least 1 (their equation 6).

    >>> widths(torch.tensor([8, 2, 2, 0]), [0, 1], 8, 0.5)  # means of 8 and 4/3
    [8, 3]
    """
    ends = [*starts[1:], len(counts)]
    means = [float(counts[start:end].double().mean()) for start, end in zip(starts, ends, strict=True)]
    return [max(1, round(width * (mean / max(means[0], 1e-9)) ** temperature)) for mean in means]

"""Sums of squares over all pairs of rows that never hold the pairs: their number of steps grows with the rows."""

from __future__ import annotations

from torch import Tensor


def squares(left_NH: Tensor, right_MH: Tensor) -> Tensor:
    """[N] sum_j (l_i . r_j)^2 over all M rows of `right`, by way of its [H, H] Gram matrix.

    l_i . r_j = u_i . u_j - v_i . v_j for l = [u, -v] and r = [u, v]: so two models' similarities are compared. Rounding
    is of the size of the terms, not of what is left of them.

    >>> import torch
    >>> squares(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, 2.0]]))  # 3^2 + 4^2
    tensor([25.])
    """
    return ((left_NH @ (right_MH.T @ right_MH)) * left_NH).sum(dim=1).clamp_min(0.0)

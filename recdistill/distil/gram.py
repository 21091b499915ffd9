"""Sums of squares over all pairs of rows that never hold the pairs: their number of steps grows with the rows."""

from __future__ import annotations

from torch import Tensor


def products(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """[N] sum_j (u_i . u'_j) (v_i . v'_j) over M rows j. one: u [N, H] and u' [M, H]. other: v [N, K] and v' [M, K]."""
    return ((one[0] @ (one[1].T @ other[1])) * other[0]).sum(dim=1)


def gaps(own: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> Tensor:
    """[N] sum_j (u_i . u'_j - v_i . v'_j)^2 over M rows j: how far apart two models' similarities are.

    own: u [N, H] and u' [M, H]. theirs: v [N, K] and v' [M, K], to which no gradient runs. It is done by way of the
    Gram matrices of u' and v'; rounding is of the size of the terms, not of what is left of them.

    >>> import torch
    >>> one, two = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    >>> gaps((one, two), (torch.ones(1, 1), torch.ones(2, 1)))  # (3 - 1)^2 + (4 - 1)^2
    tensor([13.])
    """
    taught = theirs[0].detach(), theirs[1].detach()
    return (products(own, own) - 2 * products(own, taught) + products(taught, taught)).clamp_min(0.0)

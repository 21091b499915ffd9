"""What Gram matrices tell of all pairs of rows without holding the pairs: steps grow with the rows alone."""

from __future__ import annotations

import torch
from torch import Tensor


def products(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """[N] sum_j (u_i . u'_j) (v_i . v'_j) over M rows j. one: u [N, H] and u' [M, H]. other: v [N, K] and v' [M, K]."""
    return ((one[0] @ (one[1].T @ other[1])) * other[0]).sum(dim=1)


def gaps(own: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> Tensor:
    """[N] sum_j (u_i . u'_j - v_i . v'_j)^2 over M rows j: how far apart two models' similarities are.

    own: u [N, H] and u' [M, H]. theirs: v [N, K] and v' [M, K], to which no gradient runs. It is done by way of the
    Gram matrices of u' and v'; rounding is of the size of the terms, not of what is left of them.

    >>> one, two = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    >>> gaps((one, two), (torch.ones(1, 1), torch.ones(2, 1)))  # (3 - 1)^2 + (4 - 1)^2
    tensor([13.])
    """
    taught = theirs[0].detach(), theirs[1].detach()
    return (products(own, own) - 2 * products(own, taught) + products(taught, taught)).clamp_min(0.0)


@torch.no_grad()
def principal(vectors_NH: Tensor, number: int) -> Tensor:
    """[H, K] orthonormal: the directions that hold most of the vectors' squared lengths, the first the most.

    There are H of them at most.

    >>> principal(torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), 1).abs()
    tensor([[1.],
            [0.]])
    """
    _, found_HH = torch.linalg.eigh(vectors_NH.double().T @ vectors_NH.double())
    return found_HH.flip(1)[:, :number].to(vectors_NH.dtype)

"""Where a student of pairs begins: as close to its teacher's scores as vectors of its width can be."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


@torch.no_grad()
def closest(user: Tensor, item: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Tables [users, width] and [items, width], whose products are the closest to those of [users, E] and [items, E].

    With user = Q R and item = P S, and R S^T = A D B^T by singular values, they are Q A D^(1/2) and P B D^(1/2), cut to
    the largest values: no other pair of such tables has products closer in squares (Eckart & Young 1936), and the
    matrix of all scores is never made. A direction's sign is set so that its largest entry among the items is positive.
    Where the teacher is no wider, zeros fill the rest.

    >>> users, items = closest(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]]), 1)
    >>> (users @ items.T).round(decimals=4)
    tensor([[6., 0.],
            [0., 0.]])
    """
    left_UE, of_left_EE = torch.linalg.qr(user.double())
    right_IE, of_right_EE = torch.linalg.qr(item.double())
    turn_EE, value_E, other_EE = torch.linalg.svd(of_left_EE @ of_right_EE.T, full_matrices=False)
    half_E = value_E[:width].sqrt()
    users, items = left_UE @ (turn_EE[:, :width] * half_E), right_IE @ (other_EE.T[:, :width] * half_E)
    sign = items.gather(0, items.abs().argmax(dim=0, keepdim=True)).sign()
    rest = (0, width - items.shape[1])
    return pad(users * sign, rest).to(user.dtype), pad(items * sign, rest).to(item.dtype)

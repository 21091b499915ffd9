"""Lists of like lengths, to be padded together: beside one long list, all short ones would be padding."""

from __future__ import annotations

import torch
from torch import Tensor


def alike(key_N: Tensor) -> list[Tensor]:
    """Rows [n] in parts, ascending: of lists of 2 to 3 rows, 4 to 15, 16 to 63 and so on; those of one are in none.

    key_N: the list that a row is in.

    >>> [rows.tolist() for rows in alike(torch.tensor([7, 3, 7, 5, 3, 3, 3]))]
    [[0, 2], [1, 4, 5, 6]]
    """
    _, line_N, size_G = torch.unique(key_N, return_inverse=True, return_counts=True)
    kind_N = ((torch.log2(size_G.double()) / 2).floor().long() + (size_G > 1))[line_N]
    most = int(kind_N.max()) if len(kind_N) else 0
    parts = [torch.nonzero(kind_N == kind).squeeze(1) for kind in range(1, most + 1)]
    return [rows for rows in parts if len(rows)]

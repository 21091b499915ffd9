"""A history with the candidate as its newest element: what the sequence encoders read."""

from __future__ import annotations

import torch
from torch import Tensor


def with_candidate(query_NE: Tensor, key_NTE: Tensor, mask_NT: Tensor) -> tuple[Tensor, Tensor]:
    """[N, T + 1, E] candidate, newest event .. oldest; [N, T + 1] True where there is one, the candidate always."""
    mask = torch.cat([mask_NT.new_ones((len(mask_NT), 1)), mask_NT], dim=1)
    return torch.cat([query_NE.unsqueeze(1), key_NTE], dim=1), mask


def if_any(pooled_NE: Tensor, mask_NT: Tensor) -> Tensor:
    """The pooled vectors, and 0 for a row without events."""
    return pooled_NE * mask_NT.any(dim=1, keepdim=True)


def sinusoids(num_steps: int, width: int, device: torch.device) -> Tensor:
    """[T, E] float32: sine and cosine of a step's number at wavelengths from 2 pi to 20,000 pi.

    Source: Vaswani et al., Attention Is All You Need (2017, section 3.5). Differs: sines first, then cosines.
    """
    step_T = torch.arange(num_steps, dtype=torch.float32, device=device)
    half = (width + 1) // 2
    rate_H = 1e4 ** (-torch.arange(half, dtype=torch.float32, device=device) / half)
    angle_TH = step_T.unsqueeze(1) * rate_H
    return torch.cat([angle_TH.sin(), angle_TH.cos()], dim=1)[:, :width]


def distance_buckets(num_steps: int, num_buckets: int, device: torch.device) -> Tensor:
    """[T, T] int64 bucket of how much older j is than i: the first half exact, then two buckets per doubling.

    Source: T5's relative position bias (Raffel et al., 2020, section 2.1). Differs: one direction, as nothing looks at
    what is newer; the widths of the far buckets. The farthest share the last.

    >>> distance_buckets(8, 6, torch.device("cpu"))[0].tolist()  # 0 to 2 exact, then 3 to 4.2, to 6 and beyond
    [0, 1, 2, 3, 3, 4, 5, 5]
    """
    step_T = torch.arange(num_steps, device=device)
    distance_TT = (step_T - step_T.unsqueeze(1)).clamp_min(0)
    exact = num_buckets // 2
    ratio_TT = 2 * (distance_TT.clamp_min(exact).float() / exact).log2()
    return torch.where(distance_TT < exact, distance_TT, exact + ratio_TT.long()).clamp_max(num_buckets - 1)

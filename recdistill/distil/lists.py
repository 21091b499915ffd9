"""Losses over padded lists by the teacher's order alone, [G, L] in, [G] out: of requests, of items, of users' tops.

student_GL, teacher_GL: scores. mask_GL: True where a list has a row; others take no part, and a list without rows has
loss 0. Ties of the teacher are broken by position. No gradient runs through a rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.slates import Slates, ranks


def chosen(view: Slates, weight_N: Tensor) -> Tensor:
    """[G, L] True for the rows that the term's selection leaves: those of a weight above 0."""
    return view.mask & (view.pad(weight_N) > 0)


def num_top(mask_GL: Tensor, share: float) -> Tensor:
    """[G, 1] int64 ceil(share n), at least 1, for lists of n rows.

    >>> num_top(torch.tensor([[True, True, True], [True, False, False]]), 0.5).tolist()
    [[2], [1]]
    """
    return torch.ceil(mask_GL.sum(dim=1, keepdim=True) * share).clamp_min(1).long()


def relaxed_ranking(student_GL: Tensor, teacher_GL: Tensor, mask_GL: Tensor, share: float) -> Tensor:
    """[G] -1/K sum_{k <= K} log(e^{z_k} / sum_{i >= k} e^{z_i}), rows by the teacher's order, K = ceil(share n).

    All rows below the K best stand in every sum, in any order: Plackett-Luce of the top with a shared tail, in log
    space throughout.

    >>> z = torch.tensor([[0.0, 0.0, 0.0, 7.0]])
    >>> t = torch.tensor([[2.0, 3.0, 1.0, 0.0]])
    >>> relaxed_ranking(z, t, torch.tensor([[True, True, True, False]]), 0.6).exp()  # sqrt(3 * 2)
    tensor([2.4495])
    """
    place_GL = ranks(teacher_GL, mask_GL)
    kept_GL = mask_GL & (place_GL < num_top(mask_GL, share))
    below_GL = _sum_from_each_on(student_GL, place_GL, mask_GL)
    loss_GL = (below_GL - student_GL).masked_fill(~kept_GL, 0.0)
    return loss_GL.sum(dim=1) / kept_GL.sum(dim=1).clamp_min(1)


def dual_correction(student_GL: Tensor, teacher_GL: Tensor, mask_GL: Tensor, scale: float) -> Tensor:
    """[G] the relaxed ranking of what the student ranks too low above what it ranks too high.

        -1/sum_k u_k  sum_k u_k log(e^{z_k} / (sum_{i >= k, u_i > 0} e^{z_i} + sum_j o_j e^{z_j}))
        u = tanh(scale max(0, rank_S - rank_T)),    o = tanh(scale max(0, rank_T - rank_S)),    rank 0 the best

    >>> z = torch.tensor([[0.0, 0.0, -5.0]])
    >>> t = torch.tensor([[1.0, 2.0, 0.0]])  # the student ranks row 1 too low and row 0 too high, by one place each
    >>> dual_correction(z, t, torch.ones(1, 3, dtype=torch.bool), 0.5).exp() - 1  # tanh(0.5)
    tensor([0.4621])
    """
    place_GL = ranks(teacher_GL, mask_GL)
    gap_GL = (ranks(student_GL.detach(), mask_GL) - place_GL).masked_fill(~mask_GL, 0).to(student_GL.dtype)
    under_GL, over_GL = torch.tanh(scale * gap_GL.clamp_min(0)), torch.tanh(scale * (-gap_GL).clamp_min(0))
    high_GL = (student_GL + over_GL.clamp_min(1e-30).log()).masked_fill(over_GL == 0, _least(student_GL))
    low_GL = _sum_from_each_on(student_GL, place_GL, under_GL > 0)
    all_GL = torch.logaddexp(low_GL, torch.logsumexp(high_GL, dim=1, keepdim=True))
    loss_GL = (all_GL - student_GL).masked_fill(under_GL == 0, 0.0) * under_GL
    return loss_GL.sum(dim=1) / under_GL.sum(dim=1).clamp_min(1e-12)


def _sum_from_each_on(score_GL: Tensor, place_GL: Tensor, mask_GL: Tensor) -> Tensor:
    """[G, L] log of the sum of e^score over the rows of the mask whose place is no better than the row's own."""
    masked_GL = score_GL.masked_fill(~mask_GL, _least(score_GL))
    ordered_GL = torch.empty_like(masked_GL).scatter(1, place_GL, masked_GL)
    return torch.logcumsumexp(ordered_GL.flip(1), dim=1).flip(1).gather(1, place_GL)


def _least(score: Tensor) -> float:
    """A score whose exp is 0 and of which differences stay finite, as those of -inf do not."""
    return torch.finfo(score.dtype).min / 4

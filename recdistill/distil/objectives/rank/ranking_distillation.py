"""Ranking distillation: the teacher's best of a list count as positives, the better and the more missed the more.

    L_r = sum_{k <= K} w_k log(1 + e^{-z_k}),    rows by the teacher's order, K = ceil(share n) of n, sum_k w_k = 1
    w_k ~ e^{-k / decay},    where hybrid: times max(0, tanh(scale (rank_S - k)))

Source: Tang & Wang, Ranking Distillation (KDD 2018, arXiv 1809.07428), equations 7 to 10: decay 1, K = 10, hybrid after
a warm-up (schedules/hybrid.py). Differs: the student's rank is that among the list's rows instead of an estimate from
100 random items of the catalogue, hence scale 0.5 instead of 0.1; weights add up to 1. A list of one row has loss 0, as
a top of everything says nothing; so has one whose top the student ranks no lower than the teacher, where hybrid. Rows
that the term's selection gives the weight 0 (what was clicked: selection/unobserved.py) take no part.

>>> rows = Batch.example(label=[0.0, 0.0, 0.0], request=[8, 8, 8])
>>> student = Scores(logit=torch.tensor([0.0, math.log(3.0), 9.0]))
>>> teacher = Scores(logit=torch.tensor([2.0, 1.0, 0.0]))
>>> loss = ranking_distillation(student, teacher, rows, share=0.6, decay=0.5)  # log 2 and log(4 / 3)
>>> torch.allclose(loss, (math.log(2.0) + math.exp(-2.0) * math.log(4 / 3)) / (1 + torch.tensor([-2.0]).exp()))
True
>>> found = ranking_distillation(student, teacher, rows, share=0.6, hybrid=True)  # row 0 is missed, row 1 is not
>>> torch.allclose(found.exp(), torch.tensor([2.0]))
True
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from recdistill.distil.lists import chosen, num_top
from recdistill.slates import ranks, slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests"}


def ranking_distillation(
    student: Scores,
    teacher: Scores,
    batch: Batch,
    *,
    share: Annotated[float, Field(gt=0, le=1)] = 0.5,
    decay: Annotated[float, Field(gt=0)] = 1.0,
    scale: Annotated[float, Field(gt=0)] = 0.5,
    hybrid: bool = False,
) -> Tensor:
    """[G] loss per request, ascending by request id, in nats."""
    view = slates(batch.request)
    mask_GL, student_GL = chosen(view, batch.weight), view.pad(student.logit)
    place_GL = ranks(view.pad(teacher.logit), mask_GL)
    kept_GL = mask_GL & (place_GL < num_top(mask_GL, share)) & (mask_GL.sum(dim=1, keepdim=True) > 1)
    weight_GL = torch.exp(-place_GL.to(student_GL.dtype) / decay) * kept_GL
    if hybrid:
        missed_GL = (ranks(student_GL.detach(), mask_GL) - place_GL).to(student_GL.dtype)
        weight_GL = weight_GL * torch.tanh(scale * missed_GL).clamp_min(0)
    return (weight_GL * softplus(-student_GL)).sum(dim=1) / weight_GL.sum(dim=1).clamp_min(1e-12)

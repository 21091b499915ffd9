"""Learn from the rows of a request that the teacher ranks higher than the student does, the more the higher.

    w_i = tanh(max(0, scale (rank_S(i) - rank_T(i)))),    rank 0 the best of the request

Source: the sampling of Kweon, Kang & Yu, Bidirectional Distillation (WWW 2021), P ~ tanh(max(0, (rank_S - rank_T)
scale)), as weights. Differs: ranks among a request's rows and not the catalogue, so scale is larger than their 0.01;
the same rule in both directions, where their teacher samples by exp((rank_T - rank_S) 1e-4), all but evenly.

>>> rows = Batch.example(label=[1.0, 0.0], request=[5, 5], teacher=Scores(logit=torch.tensor([2.0, 1.0])))
>>> torch.equal(rank_gap(rows, Scores(logit=torch.tensor([0.0, 9.0])), scale=1.0), torch.tensor([1.0, 0.0]).tanh())
True
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from recdistill.slates import ranks, slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "student", "requests"}


def rank_gap(batch: Batch, student: Scores, *, scale: Annotated[float, Field(gt=0)] = 0.5) -> Tensor:
    """[N] weights in [0, 1)."""
    assert batch.teacher is not None
    view = slates(batch.request)
    own_GL, theirs_GL = (ranks(view.pad(scores.logit), view.mask) for scores in (student, batch.teacher))
    gap_GL = (own_GL - theirs_GL).clamp_min(0).to(batch.weight.dtype)
    return torch.tanh(scale * view.flat(gap_GL))

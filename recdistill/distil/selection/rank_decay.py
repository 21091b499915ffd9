"""Learn the more from a row that is no positive the higher the student ranks it in its list.

    w_i = e^{-rank_S(i) / (decay n)} for y_i < 1/2, else 0,    rank 0 the best of the n rows of the request

Source: the student-guided sampling of Lee et al., Collaborative Distillation for Top-N Recommendation (ICDM 2019, arXiv
1911.05276), P ~ e^{-rank / (N T)}, as weights instead of draws. Differs: the order is the student's at this step
instead of at the epoch's start, among the request's rows instead of its 3,000 best items.

>>> weights = rank_decay(Batch.example(label=[0.0, 1.0, 0.0], request=[5, 5, 5]), Scores(logit=torch.arange(3.0)))
>>> torch.allclose(weights, torch.tensor([math.exp(-2 / 1.5), 0.0, 1.0]))
True
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from recdistill.slates import ranks, slates
from recdistill.types import Batch, Scores

NEEDS = {"student", "requests"}


def rank_decay(batch: Batch, student: Scores, *, decay: Annotated[float, Field(gt=0)] = 0.5) -> Tensor:
    """[N] weights in [0, 1]."""
    view = slates(batch.request)
    place_GL = ranks(view.pad(student.logit), view.mask).to(batch.weight.dtype)
    weight_GL = torch.exp(-place_GL / (decay * view.sizes.unsqueeze(1)))
    return view.flat(weight_GL) * (batch.label < 0.5)

"""KD-topk: keep the teacher's probabilities of a request's best rows, spread the rest evenly over the others.

    q_j = P_T(j) for the k = max(1, ceil(share n)) best of n rows,    q_j = (1 - sum_top) / (n - k) else
    t_j <- log q_j,    P_T(j) = softmax_j(t_j / T) over the request

Source: Tang et al., Understanding and Improving Knowledge Distillation (2020, arXiv 2002.03532), where the classes are
here a request's rows. Use it with list.softmax_kl at temperature 1: its loss is then -sum_j q_j log P_S(j) up to a
constant. The logits that come out hold no level, so they may not feed a pointwise term.

>>> teacher = Scores(logit=torch.tensor([4.0, 2.0, 1.0, 1.0]).log())
>>> rows = Batch.example(label=[1.0, 0.0, 0.0, 0.0], request=[3, 3, 3, 3])
>>> keep_top(teacher, rows, share=0.25).logit.exp()  # 4/8 stays, 4/8 is shared by three
tensor([0.5000, 0.1667, 0.1667, 0.1667])
"""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field

from recdistill.slates import log_softmax, ranks, slates
from recdistill.types import Batch, Scores

NEEDS = {"requests"}


def keep_top(
    teacher: Scores,
    batch: Batch,
    *,
    share: Annotated[float, Field(gt=0, le=1)] = 0.5,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
) -> Scores:
    """The teacher's scores as log-probabilities of the request's rows, only the best of them told apart."""
    view = slates(batch.request)
    padded_GL = view.pad(teacher.logit / temperature)
    mass_GL = log_softmax(padded_GL, view.mask).exp() * view.mask
    kept_G1 = torch.ceil(view.sizes * share).clamp_min(1).unsqueeze(1)
    top_GL = (ranks(padded_GL, view.mask) < kept_G1) & view.mask
    rest_G1 = (mass_GL * ~top_GL).sum(dim=1, keepdim=True)
    others_G1 = (view.sizes.unsqueeze(1) - kept_G1).clamp_min(1)
    spread_GL = torch.where(top_GL, mass_GL, rest_G1 / others_G1)
    return replace(teacher, logit=view.flat(spread_GL).clamp_min(1e-30).log())

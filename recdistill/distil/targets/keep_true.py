"""KD-pt: keep the teacher's probability of what was clicked only, spread the rest evenly: no dark knowledge is left.

    q_j = P_T(j) for clicked rows,    q_j = (1 - sum over clicked of P_T) / (n - number clicked) for the others
    t_j <- log q_j,    P_T(j) = softmax_j(t_j / T) over the request

Source: Tang et al., Understanding and Improving Knowledge Distillation (2020, arXiv 2002.03532). Differs: a request may
hold several clicked rows, which all keep theirs. One without a click, or with nothing else, has one row's mass spread
over all: an even list. Label-dependent, so for list terms only.

>>> teacher = Scores(logit=torch.tensor([4.0, 3.0, 1.0]).log())
>>> keep_true(teacher, Batch.example(label=[1.0, 0.0, 0.0], request=[3, 3, 3])).logit.exp()
tensor([0.5000, 0.2500, 0.2500])
"""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field

from recdistill.slates import log_softmax, slates
from recdistill.types import Batch, Scores

NEEDS = {"requests", "labels"}


def keep_true(teacher: Scores, batch: Batch, *, temperature: Annotated[float, Field(gt=0)] = 1.0) -> Scores:
    """The teacher's scores as log-probabilities of the request's rows, only the clicked ones told apart."""
    view = slates(batch.request)
    mass_GL = log_softmax(view.pad(teacher.logit / temperature), view.mask).exp() * view.mask
    clicked_GL = view.pad(batch.label) > 0.5
    rest_G1 = (mass_GL * ~clicked_GL).sum(dim=1, keepdim=True)
    others_G1 = view.sizes.unsqueeze(1) - clicked_GL.sum(dim=1, keepdim=True)
    spread_GL = torch.where(clicked_GL, mass_GL, rest_G1 / others_G1.clamp_min(1))
    return replace(teacher, logit=view.flat(spread_GL).clamp_min(1e-30).log())

"""Sampled softmax: every row that was acted on against all rows of its request that were not.

    L_r = -mean over positives p of log( exp(z_p / T) / (exp(z_p / T) + sum over negatives n of exp(z_n / T)) )

Source: Wu et al., On the Effectiveness of Sampled Softmax Loss for Item Recommendation (TOIS 2023, equation 5), on
scores without normalisation. Other positives of the request are left out of the sum. A request of one class has loss 0.
Adding a constant to a request's scores changes nothing, so it cannot calibrate.

>>> student = Scores(logit=torch.tensor([2.0, 0.0, 4.0, 5.0]))
>>> rows = Batch.example(label=[1.0, 0.0, 1.0, 1.0], request=[8, 8, 8, 9])
>>> loss = softmax(student, None, rows, temperature=2.0)
>>> want = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2))) / 2
>>> torch.allclose(loss, torch.tensor([want, 0.0]))
True
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from recdistill.slates import slates
from recdistill.types import Batch, Scores

NEEDS = {"requests"}


def softmax(
    student: Scores, teacher: Scores | None, batch: Batch, *, temperature: Annotated[float, Field(gt=0)] = 1.0
) -> Tensor:
    """[G] loss per request, ascending by request id, in nats."""
    view = slates(batch.request)
    logit_GL = view.pad(student.logit) / temperature
    positive_GL = view.mask & (view.pad(batch.label) > 0)
    negative_GL = view.mask & ~positive_GL
    rest_G = torch.logsumexp(logit_GL.masked_fill(~negative_GL, -1e9), dim=1)
    counted_GL = (positive_GL & negative_GL.any(dim=1, keepdim=True)).to(logit_GL.dtype)
    loss_GL = softplus(rest_G.unsqueeze(1) - logit_GL) * counted_GL
    return loss_GL.sum(dim=1) / counted_GL.sum(dim=1).clamp_min(1.0)

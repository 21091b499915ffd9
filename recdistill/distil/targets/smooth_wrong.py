"""Knowledge adjustment by smoothing: a request that something not clicked leads is taught by its labels instead.

    if the teacher's first row is not clicked and some row is: t_j <- log(correct / c) for the c clicked rows of n,
    t_j <- log((1 - correct) / (n - c)) for the others

Source: Wen et al., Preparing Lessons (Neurocomputing 2021, arXiv 1911.07471), label smoothing regularisation, with the
correct class's probability 0.99. Here the classes are the rows of a request. Label-dependent: for list terms only.

>>> teacher = Scores(logit=torch.tensor([2.0, 1.0, 3.0, 0.0]))
>>> rows = Batch.example(label=[0.0, 1.0, 1.0, 0.0], request=[5, 5, 6, 6])
>>> smooth_wrong(teacher, rows, correct=0.9).logit.exp()  # e^3 and 1 stay
tensor([ 0.1000,  0.9000, 20.0855,  1.0000])
"""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field

from recdistill.slates import slates
from recdistill.types import Batch, Scores

NEEDS = {"requests", "labels"}


def smooth_wrong(teacher: Scores, batch: Batch, *, correct: Annotated[float, Field(gt=0.5, lt=1)] = 0.99) -> Scores:
    """The teacher's scores, wrong requests replaced."""
    view = slates(batch.request)
    logit_GL = view.pad(teacher.logit, fill=float("-inf"))
    clicked_GL = view.pad(batch.label) > 0.5
    clicked_G1 = clicked_GL.sum(dim=1, keepdim=True)
    wrong_G1 = (clicked_G1 > 0) & ~clicked_GL.gather(1, logit_GL.argmax(dim=1, keepdim=True))
    others_G1 = (view.sizes.unsqueeze(1) - clicked_G1).clamp_min(1)
    smooth_GL = torch.where(clicked_GL, correct / clicked_G1.clamp_min(1), (1 - correct) / others_G1)
    smooth_GL = smooth_GL.to(logit_GL.dtype).log()
    return replace(teacher, logit=view.flat(torch.where(wrong_G1, smooth_GL, logit_GL)))

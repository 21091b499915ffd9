"""Knowledge adjustment: where something not clicked leads a request, it swaps scores with the best of what was clicked.

    if the teacher's first row f of a request is not clicked and some row is: t_f <-> t_c, c the best clicked row

Source: Wen et al., Preparing Lessons (Neurocomputing 2021, arXiv 1911.07471), probability shift, and the swap of Amik
et al., Dynamic Rectification KD (2022): both for the classes of an image, here the rows of a request. Ties: the first
row of a request counts as higher. Label-dependent, hence a biased estimate of P(click): for list terms only.

>>> teacher = Scores(logit=torch.tensor([2.0, 1.0, -1.0, 3.0, 0.0]))
>>> rows = Batch.example(label=[0.0, 0.0, 1.0, 1.0, 0.0], request=[5, 5, 5, 6, 6])
>>> swap_wrong(teacher, rows).logit
tensor([-1.,  1.,  2.,  3.,  0.])
"""

from dataclasses import replace

import torch

from recdistill.slates import slates
from recdistill.types import Batch, Scores

NEEDS = {"requests", "labels"}


def swap_wrong(teacher: Scores, batch: Batch) -> Scores:
    """The teacher's scores, wrong leaders corrected."""
    view = slates(batch.request)
    logit_GL = view.pad(teacher.logit, fill=float("-inf"))
    clicked_GL = view.pad(batch.label) > 0.5
    first_G1 = logit_GL.argmax(dim=1, keepdim=True)
    best_G1 = logit_GL.masked_fill(~clicked_GL, float("-inf")).argmax(dim=1, keepdim=True)
    wrong_G1 = clicked_GL.any(dim=1, keepdim=True) & ~clicked_GL.gather(1, first_G1)
    high_G1, low_G1 = logit_GL.gather(1, first_G1), logit_GL.gather(1, best_G1)
    swapped_GL = logit_GL.scatter(1, first_G1, low_G1).scatter(1, best_G1, high_G1)
    return replace(teacher, logit=view.flat(torch.where(wrong_G1, swapped_GL, logit_GL)))

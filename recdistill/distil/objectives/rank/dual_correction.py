"""Dual correction: what the student ranks too low is ranked above what it ranks too high; what is right is left alone.

    L_r = -1/sum_k u_k  sum_k u_k log(e^{z_k} / (sum_{i >= k, u_i > 0} e^{z_i} + sum_j o_j e^{z_j}))
    u = tanh(scale max(0, rank_S - rank_T)),    o = tanh(scale max(0, rank_T - rank_S)),    k by the teacher's order

Source: Lee & Kim, Dual Correction Strategy for Ranking Distillation in Top-N Recommender System (CIKM 2021, arXiv
2109.03459), its user side; rank.item_side is the other. Differs: u and o weigh all rows instead of drawing 100 of each
by them, and hold at every step instead of for an epoch; ranks among the list's rows and not 500 of the catalogue, hence
scale 0.5 instead of 0.1. Where both orders agree the loss is 0. Rows of weight 0 take no part.

>>> rows = Batch.example(label=[0.0, 0.0, 0.0], request=[8, 8, 8])
>>> student = Scores(logit=torch.tensor([math.log(3.0), 0.0, -9.0]))
>>> teacher = Scores(logit=torch.tensor([1.0, 2.0, 0.0]))  # rows 0 and 1 are to change places
>>> loss = dual_correction(student, teacher, rows, scale=1.0)
>>> torch.allclose(loss, torch.tensor([math.log(1 + 3 * math.tanh(1.0))]))
True
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from recdistill.distil import lists
from recdistill.slates import slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests"}


def dual_correction(
    student: Scores, teacher: Scores, batch: Batch, *, scale: Annotated[float, Field(gt=0)] = 0.5
) -> Tensor:
    """[G] loss per request, ascending by request id, in nats. scale: of a difference of ranks."""
    view = slates(batch.request)
    mask_GL = lists.chosen(view, batch.weight)
    return lists.dual_correction(view.pad(student.logit), view.pad(teacher.logit), mask_GL, scale)

"""Squared difference of score gaps inside a request: order and gaps like a softmax, but row by row.

    L_r = sum_j w_j (d_j - mean_r d)^2 / (2 sum_j w_j),    d_j = z_j - t_j over the rows j of request r

w is what the term's selection says of a row, so that it may learn from some rows of a request only; the mean of d is
over all. Adding a constant to a request's scores changes nothing. Source: ours; it is the limit of list.softmax_kl for
temperature to infinity at equal weights, as point.logit_mse is of point.soft_bce. A request of one row has loss 0.

>>> student = Scores(logit=torch.tensor([1.0, 0.0, 4.0]))
>>> teacher = Scores(logit=torch.tensor([3.0, 1.0, 9.0]))
>>> rows = replace(Batch.example(label=[1.0, 0.0, 0.0], request=[8, 8, 9]), weight=torch.tensor([1.0, 3.0, 1.0]))
>>> gap_mse(student, teacher, rows)  # d = -2, -1, mean -1.5: both rows are half a logit off
tensor([0.1250, 0.0000])
"""

from torch import Tensor

from recdistill.slates import slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests"}


def gap_mse(student: Scores, teacher: Scores, batch: Batch) -> Tensor:
    """[G] loss per request, ascending by request id, in squared logits."""
    view = slates(batch.request)
    gap_GL = view.pad(student.logit - teacher.logit)
    weight_GL = view.pad(batch.weight.to(gap_GL.dtype))
    centred_GL = gap_GL - gap_GL.sum(dim=1, keepdim=True) / view.sizes.unsqueeze(1)
    return (weight_GL * centred_GL.square()).sum(dim=1) / (2 * weight_GL.sum(dim=1)).clamp_min(1e-12)

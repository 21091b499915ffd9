"""Squared distance to the teacher's logit: regression on the score itself.

    L_i = (z_i - t_i)^2 / 2,    dL_i/dz_i = z_i - t_i

Source: Ba & Caruana, Do Deep Nets Really Need to be Deep? (NIPS 2014, equation 1). The 1/2 is theirs. It is 4 times the
limit of point.soft_bce for temperature to infinity, up to a constant.

>>> student, teacher = Scores(logit=torch.tensor([1.0, 0.5])), Scores(logit=torch.tensor([4.0, 0.0]))
>>> logit_mse(student, teacher, Batch.example(label=[0.0, 1.0]))  # (1 - 4)^2 / 2, 0.5^2 / 2
tensor([4.5000, 0.1250])
"""

from torch import Tensor

from recdistill.types import Batch, Scores

NEEDS = {"teacher"}


def logit_mse(student: Scores, teacher: Scores, batch: Batch) -> Tensor:
    """[N] loss per row, in squared logits."""
    return (student.logit - teacher.logit).square() / 2

"""Cross-entropy with the teacher's softened probability: pointwise knowledge distillation.

    L_i = T^2 BCE(z_i / T, sigmoid(t_i / T)),    dL_i/dz_i = T (sigmoid(z_i / T) - sigmoid(t_i / T))

T^2 keeps the gradient's size as T grows. A scalar logit is the two-class softmax over (0, z), so this is Hinton,
Vinyals & Dean (2015, arXiv 1503.02531, section 2) for two classes. Differs from the KL form by the teacher's entropy,
which has no gradient.

>>> student, teacher = Scores(logit=torch.zeros(1)), Scores(logit=torch.tensor([2 * math.log(3.0)]))
>>> loss = soft_bce(student, teacher, Batch.example(label=[0.0]), temperature=2.0)
>>> bool(torch.isclose(loss, torch.tensor([4 * math.log(2.0)])))  # at z = 0 every target costs log 2, times T^2
True
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.types import Batch, Scores

NEEDS = {"teacher"}


def soft_bce(
    student: Scores, teacher: Scores, batch: Batch, *, temperature: Annotated[float, Field(gt=0)] = 1.0
) -> Tensor:
    """[N] loss per row, in nats times temperature squared."""
    target = torch.sigmoid(teacher.logit / temperature)
    loss = binary_cross_entropy_with_logits(student.logit / temperature, target, reduction="none")
    return loss * temperature**2

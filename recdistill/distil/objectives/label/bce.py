"""Binary cross-entropy with the label: the task itself, and all that the control learns from.

    L_i = log(1 + exp(z_i + o_i)) - y_i (z_i + o_i)

o is the batch's offset, 0 unless rows were sampled. The teacher takes no part. Source: the usual log loss of a click
model, in nats.

>>> rows = Batch.example(label=[1.0, 0.0])
>>> student = Scores(logit=torch.tensor([0.0, math.log(3.0)]))
>>> bce(student, None, rows).exp()  # 1 / sigmoid(0) = 2, 1 / (1 - 3/4) = 4
tensor([2., 4.])
"""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.types import Batch, Scores


def bce(student: Scores, teacher: Scores | None, batch: Batch) -> Tensor:
    """[N] loss per row, in nats."""
    return binary_cross_entropy_with_logits(student.logit + batch.offset, batch.label, reduction="none")

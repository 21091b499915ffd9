"""Cross-entropy between the list softmaxes of teacher and student, request by request: order and gaps, never the level.

    L_r = -T^2 sum_j P_T(j) log P_S(j),    P(j) = softmax_j(z_j / T) over the rows of request r

Source: Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach (ICML 2007, ListNet with top-one
probabilities), with the teacher's scores as ground truth and Hinton's temperature. Differs from the KL divergence by
the teacher's entropy, subtracted here so that a student equal to its teacher has loss 0. A request of one row has
loss 0. Adding a constant to a request's scores changes nothing, so it cannot calibrate: use it beside label.bce.

>>> student = Scores(logit=torch.zeros(3))
>>> teacher = Scores(logit=torch.tensor([2 * math.log(3.0), 0.0, 5.0]))
>>> rows = Batch.example(label=[1.0, 0.0, 0.0], request=[8, 8, 9])
>>> entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
>>> want = 4 * torch.tensor([math.log(2.0) - entropy, 0.0])  # P_T = 3/4, 1/4 at T = 2; P_S = 1/2, 1/2
>>> torch.allclose(softmax_kl(student, teacher, rows, temperature=2.0), want)
True
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from recdistill.slates import log_softmax, slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests"}


def softmax_kl(
    student: Scores, teacher: Scores, batch: Batch, *, temperature: Annotated[float, Field(gt=0)] = 1.0
) -> Tensor:
    """[G] loss per request, ascending by request id, in nats times temperature squared."""
    view = slates(batch.request)
    student_GL = log_softmax(view.pad(student.logit / temperature), view.mask)
    teacher_GL = log_softmax(view.pad(teacher.logit / temperature), view.mask)
    mass_GL = teacher_GL.exp() * view.mask
    return (mass_GL * (teacher_GL - student_GL)).sum(dim=1) * temperature**2

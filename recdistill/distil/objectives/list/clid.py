"""Calibration-compatible listwise distillation: probabilities, normalised over the request, as list mass.

    L_r = -sum_j P_T(j) log P_S(j),    P(j) = p_j / sum_k p_k over the rows of request r,    p = sigmoid(z)

Source: Gui et al., Calibration-compatible Listwise Distillation of Privileged Features for CTR Prediction (WSDM 2024,
arXiv 2312.08727). Its minimisers hold the pointwise optimum p_S = p_T, so it does not fight calibration as a softmax
does. We subtract the teacher's entropy, so that a student equal to its teacher has loss 0. A request of one row has
loss 0.

>>> student = Scores(logit=torch.zeros(2))
>>> teacher = Scores(logit=torch.tensor([math.log(3.0), -math.log(3.0)]))
>>> rows = Batch.example(label=[1.0, 0.0], request=[5, 5])
>>> entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))  # p_T = 3/4, 1/4, which sum to 1 already
>>> torch.allclose(clid(student, teacher, rows), torch.tensor([math.log(2.0) - entropy]))
True
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from recdistill.slates import log_softmax, slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests"}


def clid(student: Scores, teacher: Scores, batch: Batch) -> Tensor:
    """[G] loss per request, ascending by request id, in nats."""
    view = slates(batch.request)
    student_GL = log_softmax(view.pad(logsigmoid(student.logit)), view.mask)
    teacher_GL = log_softmax(view.pad(logsigmoid(teacher.logit)), view.mask)
    mass_GL = teacher_GL.exp() * view.mask
    return (mass_GL * (teacher_GL - student_GL)).sum(dim=1)

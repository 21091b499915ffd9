"""List softmax distillation with a temperature of its own for every request: the harder, the sharper its target.

    L_r = -T_r^2 sum_j P_T(j) log P_S(j),    T_r = max(least, temperature + beta (mean(w) - w_r))
    w_r = (1 - cos(z, t))^gamma over the request's scores (by = cosine)
    w_r = 1 / max_j softmax_j(z)                           (by = confidence)

less the teacher's entropy. Source: Wen et al., Preparing Lessons (Neurocomputing 2021, arXiv 1911.07471), dynamic
temperature distillation: by = cosine is their FLSW, by = confidence their CWSM, the classes being the rows of a
request. The mean is over the batch's requests; no gradient runs through T_r. A request of one row has loss 0.

>>> student = Scores(logit=torch.tensor([1.0, 0.0, 1.0, 0.0]))
>>> teacher = Scores(logit=torch.tensor([2.0, 0.0, 0.0, 5.0]))
>>> rows = Batch.example(label=[1.0, 0.0, 0.0, 1.0], request=[8, 8, 9, 9])
>>> loss = dynamic_temperature(student, teacher, rows, temperature=2.0, beta=1.0)  # w = 0, 1: T = 2.5, 1.5
>>> t, s = (torch.softmax(torch.tensor(logit) / 1.5, 0) for logit in ([0.0, 5.0], [1.0, 0.0]))
>>> torch.allclose(loss[1], 1.5**2 * (t * (t / s).log()).sum())
True
"""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity

from recdistill.slates import log_softmax, slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests", "batch"}


def dynamic_temperature(
    student: Scores,
    teacher: Scores,
    batch: Batch,
    *,
    by: Literal["cosine", "confidence"] = "cosine",
    temperature: Annotated[float, Field(gt=0)] = 2.0,
    beta: Annotated[float, Field(ge=0)] = 1.0,
    gamma: Annotated[float, Field(gt=0)] = 1.0,
    least: Annotated[float, Field(gt=0)] = 0.5,
) -> Tensor:
    """[G] loss per request, ascending by request id, in nats times temperature squared."""
    view = slates(batch.request)
    student_GL, teacher_GL = view.pad(student.logit), view.pad(teacher.logit)
    seen_GL = student_GL.detach()
    if by == "cosine":
        hard_G = (1 - cosine_similarity(seen_GL, teacher_GL, dim=1)) ** gamma
    else:
        hard_G = (-log_softmax(seen_GL, view.mask).masked_fill(~view.mask, float("-inf")).amax(dim=1)).exp()
    temperature_G1 = (temperature + beta * (hard_G.mean() - hard_G)).clamp_min(least).unsqueeze(1)
    student_GL = log_softmax(student_GL / temperature_G1, view.mask)
    teacher_GL = log_softmax(teacher_GL / temperature_G1, view.mask)
    mass_GL = teacher_GL.exp() * view.mask
    return (mass_GL * (teacher_GL - student_GL)).sum(dim=1) * temperature_G1.squeeze(1) ** 2

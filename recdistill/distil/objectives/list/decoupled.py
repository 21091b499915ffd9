"""Decoupled distillation of a list: clicked against the rest, and the order among the rest, weighed apart.

    L_r = a KL(b_T || b_S) + b KL(Q_T || Q_S),    times T^2
    b = (mass on clicked rows, mass on the others),    Q = softmax over the rows that were not clicked

Source: Zhao et al., Decoupled Knowledge Distillation (CVPR 2022), as taken up by Yang et al.'s survey (2025, arXiv
2504.13825); a = 1, b = 8 is their setting for images. Differs: several rows may be clicked; they are told apart from
the others, not from one another. A request without a click has the second part alone; one with nothing else has loss 0.

>>> student = Scores(logit=torch.zeros(3))
>>> teacher = Scores(logit=torch.tensor([2.0, 3.0, 1.0]).log())
>>> rows = Batch.example(label=[1.0, 0.0, 0.0], request=[8, 8, 8])
>>> first = 1 / 3 * math.log(1.0) + 2 / 3 * math.log(1.0)  # clicked: 2/6 and 1/3
>>> second = 3 / 4 * math.log(3 / 4 * 2) + 1 / 4 * math.log(1 / 4 * 2)
>>> torch.allclose(decoupled(student, teacher, rows, rest=8.0), torch.tensor([first + 8 * second]))
True
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from recdistill.slates import log_softmax, slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests"}


def decoupled(
    student: Scores,
    teacher: Scores,
    batch: Batch,
    *,
    clicked: Annotated[float, Field(ge=0)] = 1.0,
    rest: Annotated[float, Field(ge=0)] = 8.0,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
) -> Tensor:
    """[G] loss per request, ascending by request id, in nats times temperature squared."""
    view = slates(batch.request)
    clicked_GL = view.pad(batch.label) > 0.5
    rest_GL = view.mask & ~clicked_GL
    both = [view.pad(scores.logit / temperature) for scores in (teacher, student)]
    teacher_GL, student_GL = (log_softmax(logit_GL, view.mask) for logit_GL in both)
    mass_T, mass_S = (_two_masses(log_GL, clicked_GL, rest_GL) for log_GL in (teacher_GL, student_GL))
    first_G = (mass_T.exp() * (mass_T - mass_S)).sum(dim=1)
    first_G = first_G * (clicked_GL.any(dim=1) & rest_GL.any(dim=1))
    kept_G = rest_GL.any(dim=1)
    safe_GL = torch.where(kept_G.unsqueeze(1), rest_GL, view.mask)
    rest_T, rest_S = (log_softmax(logit_GL, safe_GL) for logit_GL in both)
    second_G = (rest_T.exp() * safe_GL * (rest_T - rest_S)).sum(dim=1) * kept_G
    return (clicked * first_G + rest * second_G) * temperature**2


def _two_masses(log_GL: Tensor, clicked_GL: Tensor, rest_GL: Tensor) -> Tensor:
    """[G, 2] log of the mass on either side; a side without rows has 0, to be masked by the caller."""
    sides = [
        torch.logsumexp(log_GL.masked_fill(~side_GL, -1e4), dim=1) * side_GL.any(dim=1)
        for side_GL in (clicked_GL, rest_GL)
    ]
    return torch.stack(sides, dim=1)

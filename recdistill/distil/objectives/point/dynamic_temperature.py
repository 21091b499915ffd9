"""Pointwise distillation with a temperature of its own for every row: the harder the row, the sharper its target.

    L_i = T_i^2 BCE(z_i / T_i, sigmoid(t_i / T_i)),    T_i = max(least, temperature + beta (mean(w) - w_i))
    w_i = |z_i - t_i|^gamma    (by = gap),    or    w_i = 1 / max(p_i, 1 - p_i), p = sigmoid(z)    (by = confidence)

Source: Wen et al., Preparing Lessons (Neurocomputing 2021, arXiv 1911.07471), dynamic temperature distillation: FLSW
with the gap in the place of the cosine, which a single logit does not have, and CWSM. The mean is over the batch; no
gradient runs through T_i.

>>> rows = Batch.example(label=[1.0, 0.0])
>>> student, teacher = Scores(logit=torch.zeros(2)), Scores(logit=torch.tensor([1.0, -3.0]))
>>> loss = dynamic_temperature(student, teacher, rows, temperature=2.0, beta=0.5)  # w = 1, 3: T = 2.5, 1.5
>>> loss / math.log(2.0)
tensor([6.2500, 2.2500])
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.types import Batch, Scores

NEEDS = {"teacher", "batch"}


def dynamic_temperature(
    student: Scores,
    teacher: Scores,
    batch: Batch,
    *,
    by: Literal["gap", "confidence"] = "gap",
    temperature: Annotated[float, Field(gt=0)] = 2.0,
    beta: Annotated[float, Field(ge=0)] = 0.5,
    gamma: Annotated[float, Field(gt=0)] = 1.0,
    least: Annotated[float, Field(gt=0)] = 0.5,
) -> Tensor:
    """[N] loss per row, in nats times temperature squared."""
    logit_N = student.logit.detach()
    hard_N = (logit_N - teacher.logit).abs() ** gamma if by == "gap" else 1 / torch.sigmoid(logit_N.abs())
    temperature_N = (temperature + beta * (hard_N.mean() - hard_N)).clamp_min(least)
    target_N = torch.sigmoid(teacher.logit / temperature_N)
    loss_N = binary_cross_entropy_with_logits(student.logit / temperature_N, target_N, reduction="none")
    return loss_N * temperature_N**2

"""Continuation: regression on the teacher's logit, first shrunk to the base rate, within a margin that costs nothing.

    L_i = max(0, (z_i - c - phi (t_i - c))^2 - m_i phi),    c the logit of the base rate,    m_i = margin or v_i

phi rises to 1 over the training: use schedules/continuation.py. Source: Jafari et al., Continuation KD (Findings of
EMNLP 2022, arXiv 2212.05998), with c = 0. Differs: shrinks toward the base rate, as a target near 0 would push an early
student to a probability of one half. The margin is the teacher's own noise: `margin` in squared logits or, where none
is given, the variance v_i between the members of an ensemble that was stored with the row's score; 0 of a single
teacher.

>>> rows = Batch.example(label=[1.0, 0.0])
>>> loss = Continuation(Facts(base_rate=-1.0), margin=0.5)
>>> student, teacher = Scores(logit=torch.tensor([1.0, -1.0])), Scores(logit=torch.tensor([3.0, -1.5]))
>>> loss(student, teacher, rows, phi=0.5)  # (2 - 0.5 * 4)^2 < 0.25; (0 + 0.25)^2 < 0.25
tensor([0., 0.])
>>> loss(student, teacher, rows, phi=1.0)  # (2 - 4)^2 - 0.5
tensor([3.5000, 0.0000])
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from recdistill.distil.facts import Facts
from recdistill.types import Batch, Scores

NEEDS = {"teacher"}


class Continuation(nn.Module):
    """margin: in squared logits; None takes the variance that is stored."""

    def __init__(self, facts: Facts, *, margin: Annotated[float, Field(ge=0)] | None = None) -> None:
        super().__init__()
        self.base_rate, self.margin = facts.base_rate, margin

    def forward(self, student: Scores, teacher: Scores, batch: Batch, *, phi: float = 1.0) -> Tensor:
        """[N] loss per row, in squared logits."""
        gap_N = student.logit - self.base_rate - phi * (teacher.logit - self.base_rate)
        noise = teacher.variance if self.margin is None else self.margin
        return (gap_N.square() - phi * (0.0 if noise is None else noise)).clamp_min(0.0)

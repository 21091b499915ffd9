"""Binary cross-entropy with smoothed labels: what a teacher that knows nothing but doubt would give; a control.

    L_i = BCE(z_i + o_i, (1 - share) y_i + share pi),    pi the train window's share of positives

Source: Szegedy et al., Rethinking the Inception Architecture (CVPR 2016, section 7), with the base rate in the place of
the even distribution, so that the mean prediction stays calibrated. o is the batch's offset.

>>> smoothed = SmoothedBce(Facts(base_rate=math.log(1 / 3)), share=0.2)  # a base rate of 1/4
>>> smoothed(Scores(logit=torch.zeros(2)), None, Batch.example(label=[1.0, 0.0])).exp()  # at 0 every target costs log 2
tensor([2., 2.])
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.distil.facts import Facts
from recdistill.types import Batch, Scores


class SmoothedBce(nn.Module):
    """share: of the target that is the base rate."""

    def __init__(self, facts: Facts, *, share: Annotated[float, Field(ge=0, lt=1)] = 0.1) -> None:
        super().__init__()
        self.base_rate, self.share = facts.base_rate, share

    def forward(self, student: Scores, teacher: Scores | None, batch: Batch) -> Tensor:
        """[N] loss per row, in nats."""
        pi_N = torch.sigmoid(self.base_rate + batch.offset)
        target_N = (1 - self.share) * batch.label + self.share * pi_N
        return binary_cross_entropy_with_logits(student.logit + batch.offset, target_N, reduction="none")

"""Distillation experts: one of several small maps, picked by the teacher's vector, is to make it of the student's.

    L_i = ||h'_i - sum_m s_im E_m(h_i)||^2 / l,    s = softmax((log a + gumbel) / temperature), a = softmax(W h' + c)

Rows whose teacher's vectors are alike share an expert, so that none has to fit them all. The temperature falls over the
training (schedules/geometric.py) until a row has one expert. Experts are dropped at export.

h, h': of a run of pairs the user's vector and the item's, each with experts of its own, a row's loss being the mean of
both; else a row's last hidden layer. Source: Kang et al., DE-RRD (CIKM 2020, arXiv 2012.04357), section 4.1, 30
experts. Differs: divided by l, the mean ||h'_j||^2 of the first batch in training (the width H' before it), so that the
weight hangs neither on width nor on scale; where h' is wider than `directions`, experts map to that many of its
principal directions alone (None: to all of it, which costs many times as much).

>>> widths = [Widths(fields=(), field=0, pooled=1, blocks=(n,), hidden=n) for n in (1, 2)]
>>> loss = DistillationExperts(Facts(student=widths[0], teacher=widths[1]), number=1).eval()
>>> with torch.no_grad():
...     _ = [weight.fill_(2.0) for weight in loss.parameters()]  # 2 relu(2 h + 2) + 2 in both places
>>> student = Scores(logit=torch.zeros(1), hidden=torch.tensor([[0.5]]))
>>> teacher = Scores(logit=torch.zeros(1), hidden=torch.tensor([[8.0, 5.0]]))
>>> loss(student, teacher, Batch.example(label=[1.0])).detach()  # (0^2 + 3^2) / 2
tensor([4.5000])
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recdistill.distil.entities import entities, num_sides, widths_of
from recdistill.distil.experts import Experts
from recdistill.distil.facts import Facts
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "hidden"}


class DistillationExperts(nn.Module):
    """number: of experts. directions: how many of the teacher's vectors they map to; None: all."""

    def __init__(
        self,
        facts: Facts,
        *,
        number: Annotated[int, Field(ge=1)] = 30,
        directions: Annotated[int, Field(ge=1)] | None = 64,
    ) -> None:
        super().__init__()
        self.sides = nn.ModuleList(Experts(*widths_of(facts), number, directions) for _ in range(num_sides(facts)))

    def forward(self, student: Scores, teacher: Scores, batch: Batch, *, temperature: float = 1.0) -> Tensor:
        """[N] loss per row."""
        found = entities(student, teacher, batch, len(self.sides))
        losses = []
        for side, experts in enumerate(self.sides):
            assert isinstance(experts, Experts)
            losses.append(experts.loss(*found.on(side), temperature))
        return found.of_rows(torch.cat(losses))

"""A head of its own learns from the teacher, beside what an adapter makes of the teacher's score for today's labels.

    L_i = KL(min(1, scale p'_i) || d_i) + KL(a_i || b_i) + BCE(A(t_i) + o_i, y_i)
    (d, b) = sigmoid(V h_i + c),    a = sigmoid(A(t)), cut from the graph, A a small network on the teacher's logit t

h: the student's last hidden layer, whose own head then learns from the labels alone, so that a stale or biased teacher
shapes the layers below and never the level that is served. V and A are dropped at export. KL is that of two coins.

Source: ExFM (Liang et al., External Large Foundation Model, WWW 2025, arXiv 2502.17494): auxiliary head (first part),
student adapter (others), as re-implemented by a third party: the text was not at hand. Differs: the adapter's target
has a head beside the teacher's, as one head can not follow both; gradient scaling is the term's weight, as Adam does
not see the scale of what the head alone owns. o is the batch's offset.

>>> widths = Widths(fields=(), field=0, pooled=1, blocks=(2,), hidden=2)
>>> loss = DistillationHead(Facts(student=widths), scale=2.0)
>>> with torch.no_grad():
...     _ = [parameter.zero_() for parameter in loss.parameters()]  # every probability of its own is 1/2
>>> inside = Inside(pooled=None, blocks=(torch.ones(1, 2),), from_pooled=None, teacher=None)
>>> scores = Scores(logit=torch.tensor([-math.log(3.0)]))  # p' = 1/4, twice that is 1/2 too
>>> loss(scores, scores, Batch.example(label=[1.0]), inside).exp().detach()  # 0 + 0 + log 2
tensor([2.])
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.distil.facts import Facts
from recdistill.distil.inside import Inside
from recdistill.problems import BadInput, problem
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "blocks", "labels"}


class DistillationHead(nn.Module):
    """scale: of the teacher's probability. adapter: units. BadInput for a student without hidden layers."""

    def __init__(
        self,
        facts: Facts,
        *,
        scale: Annotated[float, Field(gt=0)] = 1.0,
        adapter: Annotated[int, Field(ge=1)] = 8,
    ) -> None:
        super().__init__()
        assert facts.student is not None
        if not facts.student.blocks:
            remedy = "give it a layer, or use another recipe"
            raise BadInput(problem("student.tower", wanted="a layer to put a head on", found="none", remedy=remedy))
        self.heads = nn.Linear(facts.student.blocks[-1], 2)
        self.adapter = nn.Sequential(nn.Linear(1, adapter), nn.ReLU(), nn.Linear(adapter, 1))
        self.scale = scale

    def forward(self, student: Scores, teacher: Scores, batch: Batch, inside: Inside) -> Tensor:
        """[N] loss per row, in nats."""
        own_N2 = self.heads(inside.blocks[-1])
        adapted_N = self.adapter(teacher.logit.to(own_N2.dtype).unsqueeze(1)).squeeze(1)
        goal_N2 = torch.stack([self.scale * torch.sigmoid(teacher.logit), torch.sigmoid(adapted_N.detach())], dim=1)
        goal_N2 = goal_N2.clamp(0.0, 1.0).to(own_N2.dtype)
        entropy_N2 = -torch.xlogy(goal_N2, goal_N2) - torch.xlogy(1 - goal_N2, 1 - goal_N2)
        followed_N2 = binary_cross_entropy_with_logits(own_N2, goal_N2, reduction="none") - entropy_N2
        label_N = batch.label.to(own_N2.dtype)
        fit_N = binary_cross_entropy_with_logits(adapted_N + batch.offset, label_N, reduction="none")
        return followed_N2.clamp_min(0).sum(dim=1) + fit_N

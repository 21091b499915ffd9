"""Peers: towers beside the student's on the same fields learn the labels, and each follows those that are better.

    L_i = mean_peers BCE(z_m + o, y) + sum_m w_m (p_m - [p])^2 + mean_m sum_{k != m} v_mk (p_m - [p_k])^2
    s_m = 1 - |y - p_m|,    w = softmax_m(-s),    v_m = softmax_{k != m}(s_k - s_m)

m, k: the student and its peers; p = sigmoid(z + o); p without m: their mean, the abstract teacher; [ ]: cut from the
graph, as are w and v. The student's own label is label.bce's business. Peers have the student's layers and read, and
train, its tables; they are dropped at export. The stored teacher is not asked: what teaches is the group.

Source: EKTF (KDEF: Ensemble Learning via Knowledge Transfer for CTR Prediction, 2024, arXiv 2411.16122), as its public
code has it: a weak member follows the mean more, and the better another is the more. Differs: one member is the student
and ships; no batch norm or dropout unless the student's tower has them.

>>> widths = Widths(fields=(), field=0, pooled=1, blocks=(2,), hidden=2)
>>> loss = Peers(Facts(student=widths), number=1)
>>> with torch.no_grad():
...     _ = [parameter.zero_() for parameter in loss.parameters()]  # the peer says 1/2
>>> inside = Inside(pooled=torch.ones(1, 1), blocks=(), from_pooled=None, teacher=None)
>>> student = Scores(logit=torch.tensor([math.log(3.0)]))  # p = 3/4: 1/8 off the mean, 1/4 off the other
>>> found = loss(student, None, Batch.example(label=[1.0]), inside)
>>> torch.allclose(found.detach(), torch.tensor([math.log(2.0) + 1 / 64 + 1 / 16]))
True
"""

import itertools
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.distil.facts import Facts
from recdistill.distil.inside import Inside
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "blocks", "pooled", "labels"}


class Peers(nn.Module):
    """number: of peers beside the student."""

    def __init__(self, facts: Facts, *, number: Annotated[int, Field(ge=1)] = 2) -> None:
        super().__init__()
        assert facts.student is not None
        widths = (facts.student.pooled, *facts.student.blocks)
        self.towers = nn.ModuleList(_tower(widths) for _ in range(number))

    def forward(self, student: Scores, teacher: Scores, batch: Batch, inside: Inside) -> Tensor:
        """[N] loss per row: nats and squared probabilities."""
        peers = [tower(inside.pooled).squeeze(1) for tower in self.towers]
        logit_NM = torch.stack([student.logit, *peers], dim=1) + batch.offset.unsqueeze(1)
        label_N1 = batch.label.to(logit_NM.dtype).unsqueeze(1)
        fit_NM = binary_cross_entropy_with_logits(logit_NM, label_N1.expand_as(logit_NM), reduction="none")
        return fit_NM[:, 1:].mean(dim=1) + _exchange(torch.sigmoid(logit_NM), label_N1)


def _exchange(p_NM: Tensor, label_N1: Tensor) -> Tensor:
    """[N] what following the mean and following one another cost."""
    seen_NM = p_NM.detach()
    score_NM = 1 - (label_N1 - seen_NM).abs()
    follow_NM = torch.softmax(-score_NM, dim=1)
    to_mean_N = (follow_NM * (p_NM - seen_NM.mean(dim=1, keepdim=True)).square()).sum(dim=1)
    self_MM = torch.eye(p_NM.shape[1], dtype=torch.bool, device=p_NM.device)
    trust_NMM = (score_NM.unsqueeze(1) - score_NM.unsqueeze(2)).masked_fill(self_MM, float("-inf")).softmax(dim=2)
    gap_NMM = (p_NM.unsqueeze(2) - seen_NM.unsqueeze(1)).square()
    return to_mean_N + (trust_NMM * gap_NMM).sum(dim=2).mean(dim=1)


def _tower(widths: tuple[int, ...]) -> nn.Sequential:
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))

"""Unbiased distillation: pairs of rows of like popularity, in the teacher's order, whatever its scores.

    L_r = 1/K sum_g sum_{i above j in (r, g)} q_ij softplus(-(z_i - z_j)),    q_ij ~ exp(-(rank_i + rank_j) / decay)

g: K popularity groups of about equal total interactions; rank: by the teacher inside (r, g), 0 the best; q sums to 1
over the pairs of each (r, g). Teacher values never enter, only their order inside a group. Ties: no pair.

Source: Chen et al., Unbiased Knowledge Distillation for Recommendation (WSDM 2023, arXiv 2211.14729), K = 4 and decay
20. Differs: the expectation over their random pairs instead of 30 of them per user; candidates are a request's rows,
not the catalogue; groups in which a request has no pair add 0.

>>> popularity = Popularity(column=0, counts=torch.tensor([1.0, 1.0, 4.0]))
>>> rows = replace(Batch.example(label=[1.0, 0.0, 0.0], request=[8, 8, 8]), ids=torch.tensor([[0], [1], [2]]))
>>> loss = Unkd(Facts(popularity=popularity), groups=2)
>>> teacher = Scores(logit=torch.tensor([3.0, 1.0, 999.0]))  # the hit is alone in its group
>>> loss(Scores(logit=torch.tensor([0.0, math.log(3.0), 0.0])), teacher, rows).exp()  # (1 + 3) to the power 1/2
tensor([2.])
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from recdistill.distil.alike import alike
from recdistill.distil.facts import Facts
from recdistill.slates import Slates, ranks, slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests", "item_popularity"}


class Unkd(nn.Module):
    """groups: K. decay: how fast the share of a pair falls with the ranks."""

    group: Tensor

    def __init__(
        self,
        facts: Facts,
        *,
        groups: Annotated[int, Field(ge=1)] = 4,
        decay: Annotated[float, Field(gt=0)] = 20.0,
    ) -> None:
        super().__init__()
        assert facts.popularity is not None
        self.column, self.groups, self.decay = facts.popularity.column, groups, decay
        self.register_buffer("group", facts.popularity.groups(groups))

    def forward(self, student: Scores, teacher: Scores, batch: Batch) -> Tensor:
        """[G] loss per request, ascending by request id, in nats."""
        line_N = torch.unique(batch.request, return_inverse=True)[1]
        key_N = line_N * self.groups + self.group[batch.ids[:, self.column]]
        loss_G = student.logit.new_zeros(int(line_N.max()) + 1)
        for rows in alike(key_N):
            view = slates(key_N[rows])
            one_G = self._of_lists(view, student.logit[rows], teacher.logit[rows])
            loss_G = loss_G.index_add(0, view.request // self.groups, one_G)
        return loss_G / self.groups

    def _of_lists(self, view: Slates, student_N: Tensor, teacher_N: Tensor) -> Tensor:
        student_GL, teacher_GL = view.pad(student_N), view.pad(teacher_N)
        above_GLL = teacher_GL.unsqueeze(2) > teacher_GL.unsqueeze(1)
        above_GLL = above_GLL & view.mask.unsqueeze(2) & view.mask.unsqueeze(1)
        share_GL = torch.exp(-ranks(teacher_GL, view.mask).to(student_GL.dtype) / self.decay)
        share_GLL = share_GL.unsqueeze(2) * share_GL.unsqueeze(1) * above_GLL
        loss_GLL = softplus(student_GL.unsqueeze(1) - student_GL.unsqueeze(2)) * share_GLL
        return loss_GLL.sum(dim=(1, 2)) / share_GLL.sum(dim=(1, 2)).clamp_min(1e-12)

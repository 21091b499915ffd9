"""Hierarchical topology distillation: cosines are kept inside groups of like rows, and between rows and group centres.

    L_i = alpha / (n_g + G) (sum_{j in g} (cos_ij - cos'_ij)^2 + sum_k (cos(h_i, P_k) - cos(h'_i, P'_k))^2)
        + (1 - alpha) ||h'_i - sum_m s_im E_m(h_i)||^2 / l

g: the n_g rows of row i's group, those of which the selector gives the same expert most; the second line, that fits
experts, and its l are feature.distillation_experts; P_k, P'_k: mean vectors of the G groups of the batch. The student
is not asked for relations of rows that have nothing to do with one another, for which it is too small.

Source: Kang et al., Topology Distillation for Recommender System (KDD 2021, arXiv 2106.08700), section 4.2 (HTD), 30
groups, alpha 0.5. h as in relation.topology; of a run of pairs users and items have groups and experts of their own.
Differs: means instead of sums; no gradient runs through the choice of a group nor into P_k; relations of two centres
are left out, being those of their members; where h' is wider than `directions`, experts map to that many of its
principal directions alone. The cosines are of all of it.

>>> widths = Widths(fields=(), field=0, pooled=2, blocks=(2,), hidden=2)
>>> loss = HierarchicalTopology(Facts(student=widths, teacher=widths), groups=1, alpha=1.0).eval()
>>> student = Scores(logit=torch.zeros(2), hidden=torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
>>> teacher = Scores(logit=torch.zeros(2), hidden=torch.tensor([[4.0, 3.0], [4.0, -3.0]]))
>>> loss(student, teacher, Batch.example(label=[1.0, 0.0])).detach()  # cosines 0.28 and, with the centre, 0.8
tensor([0.1861, 0.1861])
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from recdistill.distil.entities import entities, num_sides, widths_of
from recdistill.distil.experts import Experts
from recdistill.distil.facts import Facts
from recdistill.distil.gram import gaps
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "hidden", "batch"}


class HierarchicalTopology(nn.Module):
    """groups: at most so many. alpha: the share of the topology, the rest being the fit of the groups. directions: how
    many of the teacher's vectors the experts map to; None: all."""

    def __init__(
        self,
        facts: Facts,
        *,
        groups: Annotated[int, Field(ge=1)] = 30,
        alpha: Annotated[float, Field(ge=0, le=1)] = 0.5,
        directions: Annotated[int, Field(ge=1)] | None = 64,
    ) -> None:
        super().__init__()
        self.sides = nn.ModuleList(Experts(*widths_of(facts), groups, directions) for _ in range(num_sides(facts)))
        self.alpha = alpha

    def forward(self, student: Scores, teacher: Scores, batch: Batch, *, temperature: float = 1.0) -> Tensor:
        """[N] loss per row."""
        found = entities(student, teacher, batch, len(self.sides))
        fits, groups = [], []
        for side, experts in enumerate(self.sides):
            assert isinstance(experts, Experts)
            own, theirs, key = found.on(side)
            fits.append(experts.loss(own, theirs, key, temperature))
            groups.append(side * experts.number + experts.group(theirs))
        group_M = torch.unique(torch.cat(groups), return_inverse=True)[1]
        kept_M = _kept(found.own, found.theirs, group_M)
        return found.of_rows(self.alpha * kept_M + (1 - self.alpha) * torch.cat(fits))


def _kept(own_NH: Tensor, theirs_NH: Tensor, group_N: Tensor) -> Tensor:
    """[N] mean squared difference of a row's cosines with its group's rows and with all groups' centres."""
    size_G = torch.bincount(group_N)
    member_NG = nn.functional.one_hot(group_N).to(own_NH.dtype)
    own_G, theirs_G = (normalize(member_NG.T @ hidden_NH, dim=1) for hidden_NH in (own_NH.detach(), theirs_NH))
    own_N, theirs_N = normalize(own_NH, dim=1), normalize(theirs_NH, dim=1)
    order = torch.argsort(group_N)
    groups = zip(*(unit[order].split(size_G.tolist()) for unit in (own_N, theirs_N)), strict=True)
    inside_N = torch.cat([gaps((own, own), (theirs, theirs)) for own, theirs in groups])[torch.argsort(order)]
    total_N = inside_N + gaps((own_N, own_G), (theirs_N, theirs_G))
    return total_N / (size_G[group_N] + len(size_G))

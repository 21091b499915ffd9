"""Distillation as a control variate: each segment's teacher weighs as much as its residual explains of the student's.

    L_i = BCE(z_i, (1 - lam_g) y_i + lam_g p_t),    dL_i/dz_i = (p_s - y) - lam_g (p_t - y)
    lam_g = sum (p_s - y)(p_t - y) / sum (p_t - y)^2, clipped to [0, limit],    g the row's popularity group

The sums run over a held-out share of the rows, picked by their id, from which nothing is learned; they forget with
half-life `memory` rows. Logged beside the loss: `rho`, the correlation of the two residuals over the held-out rows (the
expected cut of the gradient's noise is rho^2), and `lambda.g` of every group.

Source: Safaryan, Peste & Alistarh, Knowledge Distillation Performs Partial Variance Reduction (NeurIPS 2023, arXiv
2305.17581): the gradient is theirs at T = 1, where a logit's makes it exact for any architecture. Differs: lam is
estimated by regression instead of tuned, per segment; the full-batch correction (their SVRG form) is left out. The
teacher must be calibrated, or lam E[p_t - y] is a bias. It is a whole loss: no label term beside it. Where rows were
sampled, both probabilities take the batch's offset.

>>> reduce = VarianceReduction(Facts(popularity=Popularity(column=0, counts=torch.ones(1))), groups=1, start=0.5)
>>> rows = replace(Batch.example(label=[1.0, 0.0]), ids=torch.zeros(2, 1, dtype=torch.int64))
>>> student, teacher = Scores(logit=torch.zeros(2)), Scores(logit=torch.tensor([4.0, -1.0]))
>>> reduce.eval()(student, teacher, rows).exp()  # at z = 0 every target costs log 2
tensor([2., 2.])
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.distil.facts import Facts
from recdistill.distil.hashed import uniform
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "item_popularity", "labels"}
_PRIOR = 10.0  # squared residuals' worth of `start` in every group, until rows outweigh it


class VarianceReduction(nn.Module):
    """groups: of about equal interactions, 0 the tail. start: lam before there are rows."""

    sums: Tensor
    group: Tensor

    def __init__(
        self,
        facts: Facts,
        *,
        groups: Annotated[int, Field(ge=1)] = 4,
        held_out: Annotated[float, Field(gt=0, lt=1)] = 0.05,
        start: Annotated[float, Field(ge=0, le=1)] = 0.5,
        limit: Annotated[float, Field(gt=0, le=1)] = 0.95,
        memory: Annotated[float, Field(gt=0)] = 50_000,
    ) -> None:
        super().__init__()
        assert facts.popularity is not None
        self.column, self.held_out, self.limit, self.memory = facts.popularity.column, held_out, limit, memory
        self.register_buffer("group", facts.popularity.groups(groups))
        self.register_buffer("sums", torch.zeros((groups, 6)))  # s t, t t, s s, s, t, rows
        self.start = start

    @property
    def shares(self) -> Tensor:
        """[groups] lam now."""
        product, squares = self.sums[:, 0] + self.start * _PRIOR, self.sums[:, 1] + _PRIOR
        return (product / squares).clamp(0.0, self.limit)

    def forward(self, student: Scores, teacher: Scores, batch: Batch) -> Tensor:
        """[N] loss per row, in nats; 0 for held-out rows."""
        logit_N, certain_N = student.logit + batch.offset, torch.sigmoid(teacher.logit + batch.offset)
        group_N = self.group[batch.ids[:, self.column]]
        held_N = uniform(batch.row_id, 1) < self.held_out
        if self.training:
            self._watch(torch.sigmoid(logit_N.detach()) - batch.label, certain_N - batch.label, group_N, held_N)
        share_N = self.shares.to(logit_N.dtype)[group_N]
        target_N = (1 - share_N) * batch.label + share_N * certain_N
        return binary_cross_entropy_with_logits(logit_N, target_N, reduction="none") * ~held_N

    def _watch(self, student_N: Tensor, teacher_N: Tensor, group_N: Tensor, held_N: Tensor) -> None:
        s, t, group = student_N[held_N], teacher_N[held_N], group_N[held_N]
        new = torch.stack([s * t, t * t, s * s, s, t, torch.ones_like(s)], dim=1).to(self.sums.dtype)
        self.sums.mul_(0.5 ** (len(s) / self.memory)).index_add_(0, group, new)

    def metrics(self) -> dict[str, Tensor]:
        """rho, and lambda of every group."""
        st, tt, ss, s, t, n = self.sums.sum(dim=0)
        n = n.clamp_min(1.0)
        spread = ((ss - s * s / n) * (tt - t * t / n)).clamp_min(1e-12).sqrt()
        return {"rho": (st - s * t / n) / spread, **{f"lambda.{g}": lam for g, lam in enumerate(self.shares)}}

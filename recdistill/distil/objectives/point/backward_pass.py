"""Auxiliary samples from the backward pass: move the embeddings to where teacher and student differ, and agree there.

    e' = e + steps of  eta d/de (z_t(e) - z_s(V e))^2,    L_i = (z_s(V e') - z_t(e'))^2 + ||V e - x||^2 / P

e: the teacher's pooled embeddings [F, E]; x: what the student's tower reads [P]; V: a learned map between the two,
fitted by the second part alone. A step is scaled to `eta` times the mean norm of the field's vectors in the batch, and
e' stays within `reach` of that norm around e. There is no label term: such points have no label.

Source: Jafari, Rezagholizadeh & Ghodsi, Improved knowledge distillation by utilizing backward pass knowledge (2023,
arXiv 2301.12006), where the perturbed input is an image or a mapped word embedding. Differs: the steps' length is
normalised, and the student's tables learn nothing from e'.

>>> live = SimpleNamespace(pooled=lambda batch: torch.ones(1, 1, 1), from_pooled=lambda at, batch: at[:, 0, 0])
>>> widths = Widths(fields=("a",), field=1, pooled=1, blocks=(), hidden=1)
>>> loss = BackwardPass(Facts(student=widths, teacher=widths), steps=1, eta=0.2)
>>> _ = torch.nn.init.ones_(loss.to_student.weight), torch.nn.init.zeros_(loss.to_student.bias)
>>> inside = Inside(pooled=torch.tensor([[1.5]]), blocks=(), from_pooled=lambda at: 0 * at[:, 0], teacher=live)
>>> loss(None, None, Batch.example(label=[1.0]), inside).detach()  # e' = 1 + 0.2: (0 - 1.2)^2 + (1 - 1.5)^2
tensor([1.6900])
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recdistill.distil.facts import Facts
from recdistill.distil.inside import Inside
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "live_teacher", "pooled", "batch"}


class BackwardPass(nn.Module):
    """steps: of the ascent. eta, reach: in mean norms of a field's vectors."""

    def __init__(
        self,
        facts: Facts,
        *,
        steps: Annotated[int, Field(ge=1)] = 2,
        eta: Annotated[float, Field(gt=0)] = 0.2,
        reach: Annotated[float, Field(gt=0)] = 0.5,
    ) -> None:
        super().__init__()
        assert facts.student is not None
        assert facts.teacher is not None
        width = len(facts.teacher.fields) * facts.teacher.field
        self.to_student = nn.Linear(width, facts.student.pooled)
        self.steps, self.eta, self.reach = steps, eta, reach

    def forward(self, student: Scores, teacher: Scores, batch: Batch, inside: Inside) -> Tensor:
        """[N] loss per row, in squared logits."""
        assert inside.teacher is not None
        here_NFE = inside.teacher.pooled(batch)
        fit_N = (self.to_student(here_NFE.flatten(1)) - inside.pooled.detach()).square().mean(dim=1)
        there_NFE = self._ascend(here_NFE, batch, inside)
        wanted_N = inside.teacher.from_pooled(there_NFE, batch).detach()
        mapped_NP = self.to_student(there_NFE.flatten(1)).detach()
        return (inside.from_pooled(mapped_NP) - wanted_N).square() + fit_N

    def _ascend(self, here_NFE: Tensor, batch: Batch, inside: Inside) -> Tensor:
        assert inside.teacher is not None
        norm_F1 = here_NFE.norm(dim=2).mean(dim=0).unsqueeze(1)
        there_NFE = here_NFE
        for _ in range(self.steps):
            point_NFE = there_NFE.detach().requires_grad_()
            gap_N = inside.teacher.from_pooled(point_NFE, batch)
            gap_N = gap_N - inside.from_pooled(self.to_student(point_NFE.flatten(1)))
            (slope_NFE,) = torch.autograd.grad(gap_N.square().sum(), point_NFE)
            step_NFE = slope_NFE / slope_NFE.norm(dim=2, keepdim=True).clamp_min(1e-12) * norm_F1 * self.eta
            moved_NFE = point_NFE.detach() + step_NFE - here_NFE
            limit_NF1 = (self.reach * norm_F1 / moved_NFE.norm(dim=2, keepdim=True).clamp_min(1e-12)).clamp_max(1.0)
            there_NFE = here_NFE + moved_NFE * limit_NF1
        return there_NFE

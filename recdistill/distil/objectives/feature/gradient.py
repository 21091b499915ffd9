"""Gradient distillation: the logit is to hang on each field in the direction in which the teacher's does.

    L_i = 1/F sum_f || g'_f / |g'_f| - U_f g / |U_f g| ||^2,    g' = dt / de'_f,    g = dz / de

e'_f: the teacher's pooled vector of field f; e: the student's pooled embeddings, all fields together; U_f a learned
map. The second-order graph touches the student's tower and head alone. A field on which the teacher's logit does not
hang at all adds nothing.

Source: Wang, Li & Sun, Gradient Knowledge Distillation for Pre-trained Language Models (2022, arXiv 2211.01071), with
the logit in the place of the largest probability and fields for tokens. Differs: their student's embeddings are copied
from the teacher, so they need no map; a student's field here is not one of the teacher's, so U_f reads all of g. Towers
of ReLU have gradients that are constant in pieces: the signal trains which units are alive, and the weights behind
them.

>>> live = SimpleNamespace(pooled=lambda batch: torch.ones(1, 1, 2), from_pooled=lambda at, batch: at[:, 0, 0] * 7)
>>> widths = Widths(fields=("a",), field=2, pooled=2, blocks=(), hidden=1)
>>> loss = Gradient(Facts(student=widths, teacher=widths))
>>> _ = torch.nn.init.eye_(loss.to_teacher.weight)
>>> pooled = torch.ones(1, 2, requires_grad=True)
>>> inside = Inside(pooled=pooled, blocks=(), from_pooled=None, teacher=live)
>>> logit = 4 * pooled[:, 1] + 3 * pooled[:, 0]  # g = (3, 4) / 5, g' = (1, 0)
>>> loss(Scores(logit=logit), None, Batch.example(label=[1.0]), inside).detach()
tensor([0.8000])
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from recdistill.distil.facts import Facts
from recdistill.distil.inside import Inside, field_gradient
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "live_teacher", "pooled"}


class Gradient(nn.Module):
    """A map a field."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        assert facts.student is not None
        assert facts.teacher is not None
        self.shape = (len(facts.teacher.fields), facts.teacher.field)
        self.to_teacher = nn.Linear(facts.student.pooled, self.shape[0] * self.shape[1], bias=False)

    def forward(self, student: Scores, teacher: Scores, batch: Batch, inside: Inside) -> Tensor:
        """[N] loss per row, from 0 to 4."""
        assert inside.teacher is not None
        with torch.enable_grad():
            pooled_NFE = inside.teacher.pooled(batch).detach().requires_grad_()
            wanted_NFE = field_gradient(inside.teacher.from_pooled(pooled_NFE, batch), pooled_NFE, create_graph=False)
        own_NP = field_gradient(student.logit, inside.pooled, create_graph=True)
        mapped_NFE = self.to_teacher(own_NP).view(-1, *self.shape)
        alive_NF = wanted_NFE.norm(dim=2) > 1e-12
        gap_NF = (normalize(wanted_NFE, dim=2) - normalize(mapped_NFE, dim=2)).square().sum(dim=2)
        return (gap_NF * alive_NF).mean(dim=1)

"""Attention transfer: the fields that are strong in the teacher are to be strong in the student.

    L_i = || a / |a| - a' / |a'| ||^2,    a_f = |e_f|^2 over the fields f that both models read

e_f: the pooled vector of field f, the student's or, with ', the teacher's. Source: Zagoruyko & Komodakis, Paying More
Attention to Attention (ICLR 2017, equation 2, p = 2), one of the nine methods of Sarfraz et al., Knowledge Distillation
Beyond Model Compression (ICPR 2020, arXiv 2007.01922). A picture's positions are here a row's fields, its channels the
embedding's elements. Differs: one layer, the embeddings.

>>> own, theirs = (Widths(fields=("a", "b"), field=n, pooled=2 * n, blocks=(), hidden=1) for n in (1, 2))
>>> live = SimpleNamespace(pooled=lambda batch: torch.tensor([[[3.0, 0.0], [0.0, 0.0]]]))
>>> inside = Inside(pooled=torch.tensor([[3.0**0.5, 2.0]]), blocks=(), from_pooled=None, teacher=live)
>>> loss = Attention(Facts(student=own, teacher=theirs))
>>> loss(None, None, Batch.example(label=[1.0]), inside)  # (3, 4) / 5 and (9, 0) / 9: 0.4^2 + 0.8^2
tensor([0.8000])
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from recdistill.distil.facts import Facts
from recdistill.distil.inside import Inside
from recdistill.problems import BadInput, problem
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "live_teacher", "pooled"}


class Attention(nn.Module):
    """own, theirs: places of the fields that both read. BadInput where there are none."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        student, teacher = facts.student, facts.teacher
        assert student is not None
        assert teacher is not None
        both = [name for name in student.fields if name in teacher.fields]
        if not both:
            where, remedy = "student.tables", "give all tables one width, or use another recipe"
            wanted = "fields of one width that the teacher reads too"
            raise BadInput(problem(where, wanted=wanted, found=", ".join(student.fields) or "none", remedy=remedy))
        self.width = student.field
        self.own = [student.fields.index(name) for name in both]
        self.theirs = [teacher.fields.index(name) for name in both]

    def forward(self, student: Scores, teacher: Scores, batch: Batch, inside: Inside) -> Tensor:
        """[N] loss per row, from 0 to 2."""
        assert inside.teacher is not None
        places = [torch.arange(f * self.width, (f + 1) * self.width) for f in self.own]
        own_NF = torch.stack([inside.pooled[:, place].square().sum(dim=1) for place in places], dim=1)
        theirs_NF = inside.teacher.pooled(batch)[:, self.theirs].square().sum(dim=2)
        return (normalize(own_NF, dim=1) - normalize(theirs_NF.to(own_NF.dtype), dim=1)).square().sum(dim=1)

"""Relational distillation by angle: three rows are to form in the student the angle that they form in the teacher.

    L_i = mean over (j, k) of huber(cos(h_i - h_j, h_k - h_j) - cos(h'_i - h'_j, h'_k - h'_j))

Source: Park et al., Relational Knowledge Distillation (CVPR 2019, equations 7 to 9). Differs: of all N^3 triples, row i
meets those of `vertices` rows j and as many rows k, the same for the whole batch, spread evenly over it; per row.

>>> student = Scores(logit=torch.zeros(3), hidden=torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
>>> teacher = Scores(logit=torch.zeros(3), hidden=5.0 * student.hidden.flip(1))  # turned and larger: the same angles
>>> angle(student, teacher, Batch.example(label=[1.0, 0.0, 0.0]), vertices=3).abs().round(decimals=4)
tensor([0., 0., 0.])
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import huber_loss

from recdistill.types import Batch, Scores

NEEDS = {"teacher", "hidden", "batch"}


def angle(student: Scores, teacher: Scores, batch: Batch, *, vertices: Annotated[int, Field(ge=2)] = 16) -> Tensor:
    """[N] loss per row."""
    assert student.hidden is not None
    assert teacher.hidden is not None
    num = min(vertices, len(batch))
    place = torch.linspace(0, len(batch) - 1, num, device=student.hidden.device).long()
    own, theirs = (_angles(h, h[place]) for h in (student.hidden, teacher.hidden.to(student.hidden.dtype)))
    return huber_loss(own, theirs, reduction="none").mean(dim=(0, 2))


def _angles(hidden_NH: Tensor, few_VH: Tensor) -> Tensor:
    """[V, N, V] cosine of the angle at each of V rows between every row and each of V others."""
    from_VNH = _unit(hidden_NH.unsqueeze(0) - few_VH.unsqueeze(1))
    to_VVH = _unit(few_VH.unsqueeze(0) - few_VH.unsqueeze(1))
    return from_VNH @ to_VVH.transpose(1, 2)


def _unit(vector: Tensor) -> Tensor:
    return vector / (vector.square().sum(dim=-1, keepdim=True) + 1e-12).sqrt()

"""Relational distillation by distance: rows that are far apart in the teacher are to be far apart in the student.

    L_i = 1/(N - 1) sum_{j != i} huber(|h_i - h_j| / mu - |h'_i - h'_j| / mu'),    mu the mean distance of the batch

Source: Park et al., Relational Knowledge Distillation (CVPR 2019, equations 3 to 6), one of the nine methods of Sarfraz
et al., Knowledge Distillation Beyond Model Compression (ICPR 2020, arXiv 2007.01922). h: the last hidden layers, any
widths. Huber's delta is 1, as theirs. Differs: per row, so that rows can be weighed; a row meets `among` rows spread
over the batch, itself among them, as the steps grow with their square and theirs had batches of 64 and 128. A batch of
one row has loss 0.

>>> student = Scores(logit=torch.zeros(3), hidden=torch.tensor([[0.0], [1.0], [2.0]]))
>>> teacher = Scores(logit=torch.zeros(3), hidden=torch.tensor([[0.0, 0.0], [0.0, 3.0], [0.0, 6.0]]))
>>> distance(student, teacher, Batch.example(label=[1.0, 0.0, 0.0])).abs().round(decimals=4)  # the same shape
tensor([0., 0., 0.])
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import huber_loss

from recdistill.types import Batch, Scores

NEEDS = {"teacher", "hidden", "batch"}


def distance(student: Scores, teacher: Scores, batch: Batch, *, among: Annotated[int, Field(ge=2)] = 128) -> Tensor:
    """[N] loss per row."""
    assert student.hidden is not None
    assert teacher.hidden is not None
    own_NH, theirs_NH = student.hidden, teacher.hidden.to(student.hidden.dtype)
    num = -(-len(batch) // among)
    loss_N = torch.cat([_gaps(own_NH[first::num], theirs_NH[first::num]) for first in range(num)])
    place_N = torch.cat([torch.arange(first, len(batch), num, device=loss_N.device) for first in range(num)])
    return loss_N[torch.argsort(place_N)]


def _gaps(own_MH: Tensor, theirs_MH: Tensor) -> Tensor:
    """[M] loss of rows that meet one another."""
    gap_MM = huber_loss(_distances(own_MH), _distances(theirs_MH), reduction="none")
    return gap_MM.sum(dim=1) / max(1, len(own_MH) - 1)


def _distances(hidden_MH: Tensor) -> Tensor:
    """[M, M] distances over their mean; 0 on the diagonal."""
    square_M1 = hidden_MH.square().sum(dim=1, keepdim=True)
    square_MM = (square_M1 + square_M1.T - 2 * hidden_MH @ hidden_MH.T).clamp_min(0.0)
    off_MM = 1 - torch.eye(len(hidden_MH), dtype=hidden_MH.dtype, device=hidden_MH.device)
    distance_MM = (square_MM + 1e-12).sqrt() * off_MM
    return distance_MM / (distance_MM.sum() / off_MM.sum().clamp_min(1.0)).clamp_min(1e-6)

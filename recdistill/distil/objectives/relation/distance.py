"""Relational distillation by distance: rows that are far apart in the teacher are to be far apart in the student.

    L_i = 1/(N - 1) sum_{j != i} huber(|h_i - h_j| / mu - |h'_i - h'_j| / mu'),    mu the mean distance of the batch

Source: Park et al., Relational Knowledge Distillation (CVPR 2019, equations 3 to 6), one of the nine methods of Sarfraz
et al., Knowledge Distillation Beyond Model Compression (ICPR 2020, arXiv 2007.01922). h: the last hidden layers, any
widths. Huber's delta is 1, as theirs. Differs: per row, so that rows can be weighed. A batch of one row has loss 0.

>>> student = Scores(logit=torch.zeros(3), hidden=torch.tensor([[0.0], [1.0], [2.0]]))
>>> teacher = Scores(logit=torch.zeros(3), hidden=torch.tensor([[0.0, 0.0], [0.0, 3.0], [0.0, 6.0]]))
>>> distance(student, teacher, Batch.example(label=[1.0, 0.0, 0.0])).abs().round(decimals=4)  # the same shape
tensor([0., 0., 0.])
"""

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from recdistill.types import Batch, Scores

NEEDS = {"teacher", "hidden", "batch"}


def distance(student: Scores, teacher: Scores, batch: Batch) -> Tensor:
    """[N] loss per row."""
    assert student.hidden is not None
    assert teacher.hidden is not None
    own_NN, theirs_NN = (_distances(hidden) for hidden in (student.hidden, teacher.hidden.to(student.hidden.dtype)))
    return huber_loss(own_NN, theirs_NN, reduction="none").sum(dim=1) / max(1, len(batch) - 1)


def _distances(hidden_NH: Tensor) -> Tensor:
    """[N, N] distances over their mean; 0 on the diagonal."""
    square_N1 = hidden_NH.square().sum(dim=1, keepdim=True)
    square_NN = (square_N1 + square_N1.T - 2 * hidden_NH @ hidden_NH.T).clamp_min(0.0)
    off_NN = 1 - torch.eye(len(hidden_NH), dtype=hidden_NH.dtype, device=hidden_NH.device)
    distance_NN = (square_NN + 1e-12).sqrt() * off_NN
    return distance_NN / (distance_NN.sum() / off_NN.sum().clamp_min(1.0)).clamp_min(1e-6)

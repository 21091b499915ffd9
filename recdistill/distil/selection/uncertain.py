"""Learn more from the rows that the teacher is unsure of.

    w_i = floor + (1 - floor) H(p_i) / log 2,    p_i = sigmoid(t_i),    H the entropy of a coin

Source: the data choice of Dynamic Knowledge Distillation (Li et al., EMNLP 2021, section 3.2). Differs: by the
teacher's entropy instead of the student's, and as a smooth weight instead of a cut, so that no row is lost.

>>> rows = Batch.example(label=[1.0, 0.0], teacher=Scores(logit=torch.tensor([0.0, 40.0])))
>>> uncertain(rows, floor=0.25)
tensor([1.0000, 0.2500])
"""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from recdistill.types import Batch

NEEDS = {"teacher"}


def uncertain(batch: Batch, *, floor: Annotated[float, Field(ge=0, le=1)] = 0.1) -> Tensor:
    """[N] weights in [floor, 1]."""
    assert batch.teacher is not None
    logit = batch.teacher.logit
    entropy = softplus(logit) - torch.sigmoid(logit) * logit
    return floor + (1 - floor) * entropy / math.log(2)

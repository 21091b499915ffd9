"""DLRM: the dot products of all pairs of fields, with the numbers as one field more, under a tower.

    v_0 = bottom(dense),    out = top([v_0, <v_i, v_j> for i < j])

Source: Naumov et al., Deep Learning Recommendation Model (2019, arXiv 1906.00091, section 2). Published: Criteo 1TB AUC
.8025 (the quality target of MLPerf's DLRM). Differs: without numbers v_0 is a learned vector, which gives every field a
term of its own; the last layer of `bottom` is linear, so that v_0 can be negative as embeddings can.
"""

import torch
from torch import Tensor, nn

from recdistill.models.embed import Fields, Shape
from recdistill.models.layers import Dropout, Sizes, tower


class Dlrm(nn.Module):
    """size: the width of what comes out. bottom, hidden: units of the towers under and over the products."""

    def __init__(
        self,
        shape: Shape,
        *,
        bottom: Sizes = (64,),
        hidden: Sizes = (256, 128),
        dropout: Dropout = 0.0,
    ) -> None:
        super().__init__()
        below = bottom[-1] if bottom else shape.dense
        self.bottom = tower(shape.dense, bottom).append(nn.Linear(below, shape.width)) if shape.dense else None
        self.constant = None if shape.dense else nn.Parameter(torch.randn(shape.width) * 0.05)
        num_vectors = shape.fields + 1
        width = shape.width + num_vectors * (num_vectors - 1) // 2
        self.top = tower(width, hidden, dropout)
        self.size = hidden[-1] if hidden else width

    def forward(self, fields: Fields) -> Tensor:
        """[N, size]: what the head reads."""
        vectors_NFE = fields.vectors
        if self.bottom is not None:
            first_NE = self.bottom(fields.dense).to(vectors_NFE.dtype)
        else:
            assert self.constant is not None
            first_NE = self.constant.expand(len(vectors_NFE), -1)
        out: Tensor = self.top(
            torch.cat([first_NE, pairs(torch.cat([first_NE.unsqueeze(1), vectors_NFE], dim=1))], dim=1)
        )
        return out


def pairs(vectors_NFE: Tensor) -> Tensor:
    """[N, F * (F - 1) / 2] dot products of all pairs i < j, in float32 where autocast is off.

    >>> pairs(torch.tensor([[[1.0, 2.0], [3.0, 0.0], [0.0, -1.0]]]))  # <v1, v2>, <v1, v3>, <v2, v3>
    tensor([[ 3., -2.,  0.]])
    """
    num_fields = vectors_NFE.shape[1]
    first, second = torch.triu_indices(num_fields, num_fields, offset=1, device=vectors_NFE.device)
    return (vectors_NFE @ vectors_NFE.transpose(1, 2))[:, first, second]

"""DCNv2: a cross network beside a tower, both over all fields and numbers.

Source: Wang et al., DCN V2 (WWW 2021), parallel structure (figure 1b).
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recdistill.models.embed import Fields, Shape
from recdistill.models.layers import Cross, tower


class Dcnv2(nn.Module):
    """size: the width of what comes out. layers: of the cross network. hidden: units of the tower's layers."""

    def __init__(
        self,
        shape: Shape,
        *,
        layers: Annotated[int, Field(ge=0)] = 2,
        hidden: Sequence[Annotated[int, Field(ge=1)]] = (256, 128),
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        self.cross = Cross(shape.flat, layers)
        self.tower = tower(shape.flat, hidden, dropout)
        self.size = shape.flat + (hidden[-1] if hidden else shape.flat)

    def forward(self, fields: Fields) -> Tensor:
        """[N, size]: what the head reads."""
        x_NH = fields.flat()
        return torch.cat([self.cross(x_NH), self.tower(x_NH)], dim=1)

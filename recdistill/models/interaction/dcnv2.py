"""DCNv2: a cross network beside a tower, or below one, over all fields and numbers.

    x_0 = [v_1 .. v_F, dense],    parallel: [cross(x_0), tower(x_0)],    stacked: tower(cross(x_0))
    cross: x_{l+1} = x_0 * (W_l x_l + b_l) + x_l,    with `rank` a gated mixture of low-rank W: see layers.CrossMixture

Source: Wang et al., DCN V2 (WWW 2021, equations 1 and 4 to 6, figure 1). Published: Criteo_x4 AUC .8145 (BARS); of low
rank, Criteo 1TB AUC .80275 (the quality target of MLPerf's DLRM-DCNv2).
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recdistill.config.sections import Count
from recdistill.models.embed import Fields, Shape
from recdistill.models.layers import Cross, CrossMixture, Dropout, Sizes, tower


class Dcnv2(nn.Module):
    """size: the width of what comes out. layers: of the cross network. hidden: units of the tower's layers.

    rank: of the cross network's matrices; None is full, without experts. experts: low-rank matrices per layer.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        layers: Annotated[int, Field(ge=0)] = 2,
        rank: Count | None = None,
        experts: Count = 4,
        structure: Literal["parallel", "stacked"] = "parallel",
        hidden: Sizes = (256, 128),
        dropout: Dropout = 0.0,
    ) -> None:
        super().__init__()
        width = shape.flat
        full = rank is None
        self.cross = Cross(width, layers) if full else CrossMixture(width, layers, rank=rank or 1, experts=experts)
        self.tower = tower(width, hidden, dropout)
        self.stacked = structure == "stacked"
        self.size = (hidden[-1] if hidden else width) + (0 if self.stacked else width)

    def forward(self, fields: Fields) -> Tensor:
        """[N, size]: what the head reads."""
        x_NH = fields.flat()
        crossed_NH: Tensor = self.cross(x_NH)
        if self.stacked:
            out: Tensor = self.tower(crossed_NH)
            return out
        return torch.cat([crossed_NH, self.tower(x_NH)], dim=1)

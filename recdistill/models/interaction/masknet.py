"""MaskNet: blocks that multiply what they read by a mask made from all fields of the row.

    mask(x) = W_2 relu(W_1 x),    block(x, y) = relu(norm(W (mask(x) * y)))
    serial: y_k = block_k(x, y_{k-1}), out = y_K,    parallel: out = tower([block_1(x, y_0) .. block_K(x, y_0)])

x are all fields and numbers, y_0 the same with every field's vector normalised. Source: Wang et al., MaskNet (DLP-KDD
2021, section 3). Published: Criteo_x4 AUC .8134 (BARS, parallel). Differs: the numbers join as they are, scaled but not
embedded.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recdistill.config.sections import Count
from recdistill.models.embed import Fields, Shape
from recdistill.models.layers import Dropout, Sizes, tower


class Masknet(nn.Module):
    """size: the width of what comes out. blocks of `block` units; hidden: units of the tower over the parallel ones.

    reduction: hidden units of a mask over its input's.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        structure: Literal["serial", "parallel"] = "parallel",
        blocks: Count = 3,
        block: Count = 128,
        reduction: Annotated[float, Field(gt=0)] = 1.0,
        hidden: Sizes = (128,),
        dropout: Dropout = 0.0,
    ) -> None:
        super().__init__()
        self.serial = structure == "serial"
        self.norm = nn.LayerNorm(shape.width)
        inner = max(1, round(shape.flat * reduction))
        widths = [block if self.serial and place else shape.flat for place in range(blocks)]
        self.blocks = nn.ModuleList(_Block(shape.flat, width, inner, block, dropout) for width in widths)
        self.tower = nn.Sequential() if self.serial else tower(blocks * block, hidden, dropout)
        self.size = block if self.serial else (hidden[-1] if hidden else blocks * block)

    def forward(self, fields: Fields) -> Tensor:
        """[N, size]: what the head reads."""
        x_NH = fields.flat()
        y_NH = torch.cat([self.norm(fields.vectors).flatten(1), fields.dense], dim=1)
        if self.serial:
            for block in self.blocks:
                y_NH = block(x_NH, y_NH)
            return y_NH
        out: Tensor = self.tower(torch.cat([block(x_NH, y_NH) for block in self.blocks], dim=1))
        return out


class _Block(nn.Module):
    def __init__(self, context: int, width: int, inner: int, size: int, dropout: float) -> None:
        super().__init__()
        self.mask = tower(context, [inner]).append(nn.Linear(inner, width))
        self.out = nn.Sequential(nn.Linear(width, size, bias=False), nn.LayerNorm(size), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x_NH: Tensor, y_NH: Tensor) -> Tensor:
        """[N, context] and [N, width] -> [N, size]."""
        out: Tensor = self.out(self.mask(x_NH) * y_NH)
        return out

"""MLP: a tower over all fields and numbers, and no explicit products; the baseline of the others.

    out = tower([v_1 .. v_F, dense])

Source: the deep part of Cheng et al., Wide & Deep (DLRS 2016, section 3.2). Published: Criteo_x4 AUC .8140, where
DCNv2 reaches .8145 (BARS, "DNN").
"""

from torch import Tensor, nn

from recdistill.models.embed import Fields, Shape
from recdistill.models.layers import Dropout, Sizes, tower


class Mlp(nn.Module):
    """hidden: units of the tower's layers. size: the width of what comes out."""

    def __init__(self, shape: Shape, *, hidden: Sizes = (256, 128), dropout: Dropout = 0.0) -> None:
        super().__init__()
        self.tower = tower(shape.flat, hidden, dropout)
        self.size = hidden[-1] if hidden else shape.flat

    def forward(self, fields: Fields) -> Tensor:
        """[N, size]: what the head reads."""
        out: Tensor = self.tower(fields.flat())
        return out

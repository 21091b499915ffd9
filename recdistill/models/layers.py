"""Layers that several models share: cross networks, tower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recdistill.config.sections import Count

Sizes = Sequence[Count]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class Cross(nn.Module):
    """x_{l+1} = x_0 * (W_l x_l + b_l) + x_l: the full-matrix cross network.

    Source: Wang et al., DCN V2 (WWW 2021, equation 1).
    """

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers))

    def forward(self, x_NH: Tensor) -> Tensor:
        """[N, H] -> [N, H]."""
        first_NH = x_NH
        for layer in self.layers:
            x_NH = first_NH * layer(x_NH) + x_NH
        return x_NH


class CrossMixture(nn.Module):
    """x_{l+1} = sum_i p_i(x_l) E_i(x_l) + x_l: a cross network whose matrices are a gated mixture of low rank ones.

    E_i(x) = x_0 * (U_i g(C_i g(V_i x)) + b),    p = softmax(G x)

    Source: Wang et al., DCN V2 (WWW 2021, equations 4 to 6). V is [rank, H], U is [H, rank], C is [rank, rank].
    Differs: a gate is a softmax over the experts, where the paper leaves it open; one expert has none. With `rank` = H,
    one expert and g the identity this is `Cross` with W = U C V.
    """

    def __init__(
        self,
        width: int,
        num_layers: int,
        *,
        rank: int,
        experts: int,
        nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
    ) -> None:
        super().__init__()
        self.nonlinearity = nonlinearity
        self.down = nn.ModuleList(nn.Linear(width, experts * rank, bias=False) for _ in range(num_layers))
        self.core = nn.ParameterList(nn.init.eye_(torch.empty(rank, rank)).repeat(experts, 1, 1) for _ in self.down)
        self.up = nn.ModuleList(nn.Linear(experts * rank, width) for _ in range(num_layers))
        self.gate = nn.ModuleList(nn.Linear(width, experts, bias=False) for _ in self.down if experts > 1)

    def forward(self, x_NH: Tensor) -> Tensor:
        """[N, H] -> [N, H]. The gates weigh the small vectors, so that one product brings all experts up again."""
        first_NH = x_NH
        for place, (down, core, up) in enumerate(zip(self.down, self.core, self.up, strict=True)):
            experts, rank, _ = core.shape
            low_NXR = self.nonlinearity(down(x_NH).unflatten(1, (experts, rank)))
            low_NXR = self.nonlinearity(torch.einsum("nxr,xsr->nxs", low_NXR, core))
            if experts > 1:
                low_NXR = low_NXR * torch.softmax(self.gate[place](x_NH), dim=1).unsqueeze(2)
            x_NH = first_NH * up(low_NXR.flatten(1)) + x_NH
        return x_NH


def tower(width: int, hidden: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear, ReLU, dropout per hidden layer; no output layer. An empty `hidden` is the identity."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else [])
        width = size
    return nn.Sequential(*layers)

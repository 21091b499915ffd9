"""Layers that several models share: cross network, tower."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


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


def tower(width: int, hidden: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear, ReLU, dropout per hidden layer; no output layer. An empty `hidden` is the identity."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else [])
        width = size
    return nn.Sequential(*layers)

"""What MMoE and PLE are made of: experts run side by side, gates that mix them, a small tower per task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recdistill.models.layers import tower


class Experts(nn.Module):
    """`num` towers of the same shape. out: the width of what each gives."""

    def __init__(self, size: int, num: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.experts = nn.ModuleList(tower(size, hidden, dropout) for _ in range(num))

    def forward(self, x_NH: Tensor) -> list[Tensor]:
        """[N, H] -> `num` times [N, out]."""
        return [expert(x_NH) for expert in self.experts]


class Gate(nn.Module):
    """A mean of experts with weights softmax(W x): what one task, or the next level, reads."""

    def __init__(self, size: int, num: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(size, num, bias=False)

    def forward(self, x_NH: Tensor, experts: Sequence[Tensor]) -> Tensor:
        """x: [N, H], what the weights depend on. experts: each [N, X]. -> [N, X]."""
        stacked_NGX = torch.stack(list(experts), dim=1)
        weight_NG = torch.softmax(self.weigh(x_NH), dim=1).to(stacked_NGX.dtype)
        return (weight_NG.unsqueeze(1) @ stacked_NGX).squeeze(1)


class Towers(nn.Module):
    """A tower of its own for each task, with one logit on top."""

    def __init__(self, size: int, num_tasks: int, hidden: Sequence[int]) -> None:
        super().__init__()
        last = hidden[-1] if hidden else size
        self.towers = nn.ModuleList(tower(size, hidden).append(nn.Linear(last, 1)) for _ in range(num_tasks))

    def forward(self, mixed: Sequence[Tensor]) -> Tensor:
        """[N, X] per task -> [N, M] logits."""
        return torch.cat([part(x_NX) for part, x_NX in zip(self.towers, mixed, strict=True)], dim=1)

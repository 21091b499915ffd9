"""A student whose tower is two side by side, one of them an assistant's: their logits add up in one graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recdistill.models.layers import tower
from recdistill.models.student import StudentModel


class SideBySide(nn.Module):
    """[N, P] -> [N, H + A]: the student's own hidden layer, then the assistant's."""

    def __init__(self, main: nn.Sequential, assistant: nn.Sequential) -> None:
        super().__init__()
        self.main, self.assistant = main, assistant

    def forward(self, x_NP: Tensor) -> Tensor:
        return torch.cat([self.main(x_NP), self.assistant(x_NP)], dim=1)


class SumOfHeads(nn.Module):
    """[N, H + A] -> [N, 1]: z_s + z_a. The assistant's part is 0 until it has learnt."""

    def __init__(self, main: int, assistant: int) -> None:
        super().__init__()
        self.width = main
        self.main, self.assistant = nn.Linear(main, 1), nn.Linear(assistant, 1)
        nn.init.zeros_(self.assistant.weight)
        nn.init.zeros_(self.assistant.bias)

    def forward(self, hidden_NH: Tensor) -> Tensor:
        logit: Tensor = self.main(hidden_NH[:, : self.width]) + self.assistant(hidden_NH[:, self.width :])
        return logit


def carve(model: StudentModel, hidden: Sequence[int], share: float) -> None:
    """Split the tower and head of a fresh student in two; together they are no larger than what they replace.

    hidden: units of its tower, at least one layer of 2. share: of every layer's units that the assistant gets.

    Source: Gao et al., Residual Knowledge Distillation (2020, arXiv 2002.09168), who carve both out of one backbone.
    Differs: both read the same tables, which the student trains.
    """
    size = next(layer.in_features for layer in model.tower if isinstance(layer, nn.Linear))
    theirs = [max(1, round(share * units)) for units in hidden]
    own = [units - less for units, less in zip(hidden, theirs, strict=True)]
    model.tower = SideBySide(tower(size, own), tower(size, theirs))  # type: ignore[assignment]
    model.head = SumOfHeads(own[-1], theirs[-1])  # type: ignore[assignment]

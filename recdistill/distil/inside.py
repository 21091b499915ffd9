"""What is inside student and teacher at one step: pooled embeddings, hidden layers, and the models from there on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from recdistill.distil.facts import Widths
from recdistill.types import Batch, Scores


class LiveTeacher(Protocol):
    """The frozen teacher, called inside the step. Nothing that it returns carries a gradient but from_pooled."""

    widths: Widths

    def scores(self, batch: Batch) -> Scores: ...

    def blocks(self, batch: Batch) -> tuple[Tensor, ...]:
        """Its hidden layers in order, [N, H] each."""
        ...

    def pooled(self, batch: Batch) -> Tensor:
        """[N, F, E]: one vector per field."""
        ...

    def from_pooled(self, pooled_NFE: Tensor, batch: Batch) -> Tensor:
        """[N] logits of such vectors with the batch's numbers; differentiable in them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """pooled: [N, P], what the student's first layer read. blocks: its hidden layers in order, [N, H] each.

    from_pooled: [N, P] -> [N] logits by the student's tower and head. teacher: None unless the recipe's is live.
    """

    pooled: Tensor
    blocks: tuple[Tensor, ...]
    from_pooled: Callable[[Tensor], Tensor]
    teacher: LiveTeacher | None


class Watched:
    """A student whose inside can be seen: `tower` is an nn.Sequential with a ReLU per hidden layer, `head` follows."""

    def __init__(self, student: nn.Module) -> None:
        tower, head = student.tower, student.head
        assert isinstance(tower, nn.Sequential)
        assert isinstance(head, nn.Linear)
        self.student, self.tower, self.head = student, tower, head
        self._pooled: Tensor | None = None
        self._blocks: list[Tensor] = []
        tower.register_forward_pre_hook(self._keep_input)
        for layer in tower:
            if isinstance(layer, nn.ReLU):
                layer.register_forward_hook(self._keep_block)

    def _keep_input(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        self._pooled, self._blocks = given[0], []
        if torch.is_grad_enabled() and not self._pooled.requires_grad:
            self._pooled.requires_grad_()  # of frozen tables: an objective may want the gradient at them all the same

    def _keep_block(self, module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        self._blocks.append(out)

    def __call__(self, batch: Batch, teacher: LiveTeacher | None) -> tuple[Scores, Inside]:
        scores = self.student(batch.ids, batch.dense)
        assert self._pooled is not None
        inside = Inside(pooled=self._pooled, blocks=tuple(self._blocks), from_pooled=self._from_pooled, teacher=teacher)
        return scores, inside

    def _from_pooled(self, pooled_NP: Tensor) -> Tensor:
        logit: Tensor = self.head(self.tower(pooled_NP)).squeeze(1)
        return logit


def field_gradient(logit_N: Tensor, pooled: Tensor, *, create_graph: bool) -> Tensor:
    """d logit / d pooled, row by row, of pooled's shape; 0 where the logit does not depend on it."""
    (found,) = torch.autograd.grad(
        logit_N.sum(), pooled, create_graph=create_graph, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return found

"""The frozen teacher as objectives see it in a step: its scores, its hidden layers, its logit from other vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recdistill.distil.facts import Widths
from recdistill.models.embed import Fields
from recdistill.models.teacher import TeacherModel
from recdistill.types import Batch, Layout, Scores


class Live:
    """A LiveTeacher. Scores are the whole teacher's; the inside, where there are several members, is the first one's.

    One forward pass serves all that is asked of a batch.
    """

    def __init__(self, teacher: nn.Module, layout: Layout) -> None:
        self.teacher = teacher
        self.core = next(module for module in teacher.modules() if isinstance(module, TeacherModel))
        self.core.interaction.requires_grad_(False)
        self.core.head.requires_grad_(False)
        self.device = next(self.core.head.parameters()).device
        self._fields: Fields | None = None
        self._relus: list[Tensor] = []
        self._hidden: Tensor | None = None
        self._answered: Tensor | None = None  # the ids of the batch that was asked about last
        self._scores: Scores | None = None
        self._listen()
        self.widths = self._widths(layout)

    def _listen(self) -> None:
        def fields(module: nn.Module, given: tuple[Any, ...]) -> None:
            self._fields, self._relus = given[0], []

        def relu(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> None:
            if out.dim() == 2:
                self._relus.append(out)

        def hidden(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> None:
            self._hidden = out

        self.core.interaction.register_forward_pre_hook(fields)
        self.core.interaction.register_forward_hook(hidden)
        for module in self.core.interaction.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(relu)

    def _ask(self, batch: Batch) -> tuple[Scores, Fields, tuple[Tensor, ...]]:
        if self._answered is not batch.ids:
            with torch.no_grad():
                self._scores = self.teacher(batch.ids, batch.dense)
            assert self._fields is not None
            assert self._hidden is not None
            self._kept = self._fields, (*self._relus[:-1], self._hidden)
            self._answered = batch.ids
        assert self._scores is not None
        return self._scores, *self._kept

    def scores(self, batch: Batch) -> Scores:
        return self._ask(batch)[0].detach()

    def blocks(self, batch: Batch) -> tuple[Tensor, ...]:
        """[N, H] each: what its ReLUs give, but for the last one's; then what its head reads."""
        return self._ask(batch)[2]

    def pooled(self, batch: Batch) -> Tensor:
        """[N, F, E]."""
        return self._ask(batch)[1].vectors.float()

    def from_pooled(self, pooled_NFE: Tensor, batch: Batch) -> Tensor:
        """[N] logits; differentiable in pooled_NFE."""
        hidden_NH = self.core.interaction(Fields(vectors=pooled_NFE, dense=batch.dense))
        logit: Tensor = self.core.head(hidden_NH).float()[:, 0]
        return logit

    def _widths(self, layout: Layout) -> Widths:
        """Asked of one row of absent ids, as what shards and plug-ins make of a layout is theirs to say."""
        ids = torch.zeros((1, layout.num_id_columns), dtype=torch.int64, device=self.device)
        row = torch.zeros(1, device=self.device)
        row_id = row.long()
        dense = torch.zeros((1, len(layout.dense)), device=self.device)
        batch = Batch(ids=ids, dense=dense, label=row, weight=row, offset=row, request=row_id, row_id=row_id)
        scores, fields, blocks = self._ask(batch)
        names = [feature.name for feature in _in_order(self.core)]
        names += ["history"] if self.core.history is not None else []
        _, num_fields, width = fields.vectors.shape
        assert len(names) == num_fields
        hidden = scores.hidden
        return Widths(
            fields=tuple(names),
            field=width,
            pooled=num_fields * width + len(layout.dense),
            blocks=tuple(block.shape[1] for block in blocks),
            hidden=0 if hidden is None else hidden.shape[1],
        )


def _in_order(core: TeacherModel) -> list[Any]:
    """The pooled features as Embed puts them side by side: bags by table, then those that share a history's table."""
    grouped: dict[str, list[Any]] = {}
    for feature in core.embed.bags:
        grouped.setdefault(feature.table, []).append(feature)
    return [*(feature for group in grouped.values() for feature in group), *core.embed.lone]

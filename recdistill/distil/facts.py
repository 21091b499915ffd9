"""What a plug-in that is a class may know when it is made: shapes, base rate, popularity, other models' logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """The inside of a model. fields: names of the pooled embeddings that its first layer reads, `field` wide each.

    pooled: the width of all that the first layer reads, numbers after the fields. blocks: widths of the hidden layers
    in order. hidden: the width of Scores.hidden.
    """

    fields: tuple[str, ...]
    field: int
    pooled: int
    blocks: tuple[int, ...]
    hidden: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Popularity:
    """How often each item occurs in the train window. column: of Batch.ids. counts: [items] float32, by item id."""

    column: int
    counts: Tensor

    def of(self, ids: Tensor) -> Tensor:
        """[N] counts of the rows' items."""
        return self.counts.to(ids.device)[ids[:, self.column]]

    def groups(self, number: int) -> Tensor:
        """[items] int64 group of each item, 0 the least popular: groups of about equal total counts.

        >>> Popularity(column=0, counts=torch.tensor([4.0, 1.0, 1.0, 2.0])).groups(2)
        tensor([1, 0, 0, 0])
        """
        order = torch.argsort(self.counts, stable=True)
        before = torch.cumsum(self.counts[order], 0) - self.counts[order] / 2
        group = torch.empty_like(order)
        group[order] = (before / self.counts.sum().clamp_min(1.0) * number).long().clamp(0, number - 1)
        return group


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLogits:
    """Another model's logits by row. row_id: [M] int64, ascending. logit: [M] float32."""

    row_id: Tensor
    logit: Tensor

    def of(self, row_id: Tensor) -> tuple[Tensor, Tensor]:
        """([N] logits, 0 where there is none, [N] bool whether there is one).

        >>> RowLogits(row_id=torch.tensor([3, 8]), logit=torch.tensor([0.5, -1.0])).of(torch.tensor([8, 4]))
        (tensor([-1.,  0.]), tensor([ True, False]))
        """
        place = places(self.row_id.to(row_id.device), row_id)
        known = place >= 0
        return self.logit.to(row_id.device)[place.clamp_min(0)] * known, known


def places(ascending: Tensor, wanted: Tensor) -> Tensor:
    """[N] where each wanted value stands in an ascending tensor; -1 for one that does not."""
    if not len(ascending):
        return torch.full_like(wanted, -1)
    place = torch.searchsorted(ascending, wanted).clamp_max(len(ascending) - 1)
    return torch.where(ascending[place] == wanted, place, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """base_rate: logit of the train window's share of positives, training offsets taken off. epochs: of the training.

    row_id: [rows] int64 of the train window, ascending. student, teacher: None where no plug-in asks for the inside.
    num_members: of the teacher whose members' logits were stored, else 1.
    popularity, item_vectors ([items, E], the teacher's table of the candidate): None where none asks. others: what
    earlier models said, by name: previous_teacher, previous_student, first_generation.
    """

    base_rate: float = 0.0
    epochs: int = 1
    row_id: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    student: Widths | None = None
    teacher: Widths | None = None
    num_members: int = 1
    popularity: Popularity | None = None
    item_vectors: Tensor | None = None
    others: Mapping[str, RowLogits] = field(default_factory=dict)

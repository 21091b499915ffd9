"""The two-tower student: a vector of the user, a vector of the item, and their dot product as logit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from recdistill.config.student import Table
from recdistill.models.fields import Histories, Tables, pick
from recdistill.models.layers import tower
from recdistill.types import IdFeature, Layout, Scores


class TwoTowerModel(nn.Module):
    """logit = u(user's features, mean of the history) . v(item's features) + b

    Source: Covington et al. (RecSys 2016), Yi et al. (RecSys 2019). Differs: no normalisation of the vectors, as the
    logit is to be the teacher's. user: names of the user's features; all others are the item's. hidden: units of each
    tower's layers. vector: width of both vectors. The rest is StudentModel's.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        width: int,
        hidden: Sequence[int],
        user: Collection[str],
        vector: int,
        without: Collection[str] = (),
        history_length: int | None = None,
        tables: Mapping[str, Table] | None = None,
        counts: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout
        read = [feature for feature in layout.pooled if feature.name not in without]
        histories = layout.histories if layout.target in read else ()
        self.tables = Tables(layout, (*read, *histories), width=width, settings=tables or {}, counts=counts or {})
        self.history = Histories(self.tables, histories, history_length) if histories else None
        numbers = {name for name in layout.dense if name not in without}
        self.user = Side(self.tables, [f for f in read if f.name in user], pick(numbers & {*user}, layout.dense))
        self.item = Side(self.tables, [f for f in read if f.name not in user], pick(numbers - {*user}, layout.dense))
        past = self.history.width if self.history else 0
        assert self.user.size + past > 0
        assert self.item.size > 0
        self.user_tower = tower(self.user.size + past, [*hidden, vector])[:-1]
        self.item_tower = tower(self.item.size, [*hidden, vector])[:-1]
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, ids: Tensor, dense: Tensor) -> Scores:
        """ids: [N, K] int64, dense: [N, D] float32 -> Scores of N rows; hidden is the product before it is summed."""
        hidden_NH = self.user_vector(ids, dense) * self.item_vector(ids, dense)
        return Scores(logit=hidden_NH.sum(dim=1) + self.bias, hidden=hidden_NH)

    def user_vector(self, ids: Tensor, dense: Tensor) -> Tensor:
        """[N, H], of the user's columns alone."""
        parts = [self.user(self.tables, ids, dense)]
        if self.history is not None:
            event_NTE, mask_NT = self.history(self.tables, ids)
            present_NT = mask_NT.to(torch.float32)
            total_NE = (event_NTE * present_NT.unsqueeze(2)).sum(dim=1)
            parts.append(total_NE / present_NT.sum(dim=1, keepdim=True).clamp_min(1.0))
        vector_NH: Tensor = self.user_tower(torch.cat(parts, dim=1))
        return vector_NH

    def item_vector(self, ids: Tensor, dense: Tensor) -> Tensor:
        """[N, H], of the item's columns alone: what a vector index holds."""
        vector_NH: Tensor = self.item_tower(self.item(self.tables, ids, dense))
        return vector_NH


class Side(nn.Module):
    """One side's fields and numbers, side by side. size: how wide they are."""

    def __init__(self, tables: Tables, features: Sequence[IdFeature], numbers: Sequence[int]) -> None:
        super().__init__()
        self.features, self.numbers = tuple(features), list(numbers)
        self.size = sum(tables.width(feature) for feature in features) + len(numbers)

    def forward(self, tables: Tables, ids: Tensor, dense: Tensor) -> Tensor:
        """[N, size]."""
        return torch.cat([*(tables.pooled(f, ids) for f in self.features), dense[:, self.numbers]], dim=1)

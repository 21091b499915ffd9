"""The lightweight student: its own narrow tables, a tiny target attention, a small tower; plain torch, exportable."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from recdistill.models.history.target_attention import TargetAttention
from recdistill.models.layers import tower
from recdistill.types import ABSENT, IdFeature, Layout, Scores

_SPARSE_FROM = 50_000  # rows from which a table's gradient is kept as the touched rows alone


class StudentModel(nn.Module):
    """Reads the same two matrices as the teacher and may ignore some of their columns.

    layout: of the matrices. without: names of features it does not read. history_length: how many of the newest
    events it looks at; None for all. Initial weights come from torch's generator.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        width: int,
        attention: int,
        hidden: Sequence[int],
        without: Collection[str] = (),
        history_length: int | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.read = tuple(feature for feature in layout.pooled if feature.name not in without)
        self.target = layout.target if layout.target in self.read else None
        self.histories = layout.histories if self.target is not None else ()
        self.history_length = min([history_length or 10**9, *(feature.width for feature in self.histories)])
        names = dict.fromkeys(feature.table for feature in (*self.read, *self.histories))
        tables = {
            name: nn.Embedding(layout.tables[name], width, sparse=layout.tables[name] > _SPARSE_FROM) for name in names
        }
        for table in tables.values():
            nn.init.normal_(table.weight, std=0.1)
        self.names = {name: f"table_{number}" for number, name in enumerate(names)}
        self.tables = nn.ModuleDict({self.names[name]: table for name, table in tables.items()})
        self.attention = TargetAttention(width, hidden=attention) if self.histories else None
        num_fields = len(self.read) + (1 if self.histories else 0)
        self.numbers = [place for place, name in enumerate(layout.dense) if name not in without]
        size = num_fields * width + len(self.numbers)
        self.tower = tower(size, hidden)
        self.head = nn.Linear(hidden[-1] if hidden else size, 1)

    def forward(self, ids: Tensor, dense: Tensor) -> Scores:
        """ids: [N, K] int64, dense: [N, D] float32 -> Scores of N rows."""
        fields = [self._pooled(feature, ids) for feature in self.read]
        if self.attention is not None:
            assert self.target is not None
            query_NE = fields[self.read.index(self.target)]
            events = [ids[:, f.start : f.start + self.history_length] for f in self.histories]
            key_NTE = sum(self._rows(f, event_NT) for f, event_NT in zip(self.histories, events, strict=True))
            fields.append(self.attention(query_NE, key_NTE, events[0] != ABSENT))
        read = dense if len(self.numbers) == len(self.layout.dense) else dense[:, self.numbers]
        hidden_NH = self.tower(torch.cat([*fields, read], dim=1))
        return Scores(logit=self.head(hidden_NH).squeeze(1), hidden=hidden_NH)

    def _rows(self, feature: IdFeature, ids: Tensor) -> Tensor:
        embedded: Tensor = self.tables[self.names[feature.table]](ids)
        return embedded

    def _pooled(self, feature: IdFeature, ids: Tensor) -> Tensor:
        """[N, E]: the row of a single id, the mean of those present in a bag, 0 for an empty one."""
        if feature.kind == "single":
            return self._rows(feature, ids[:, feature.start])
        bag_NT = ids[:, feature.start : feature.start + feature.width]
        present_NT = (bag_NT != ABSENT).to(torch.float32)
        total_NE = (self._rows(feature, bag_NT) * present_NT.unsqueeze(2)).sum(dim=1)
        return total_NE / present_NT.sum(dim=1, keepdim=True).clamp_min(1.0)

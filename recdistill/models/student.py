"""The lightweight student: its own narrow tables, a tiny target attention, a small tower; plain torch, exportable."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from recdistill.config.student import Dcn, Fm, Interaction, Mlp, Table
from recdistill.models.fields import Histories, Tables
from recdistill.models.history.target_attention import TargetAttention
from recdistill.models.layers import CrossMixture, tower
from recdistill.types import Layout, Scores


class StudentModel(nn.Module):
    """Reads the same two matrices as the teacher and may ignore some of their columns.

    layout: of the matrices. width: of the tables that have none of their own. without: names of features that it does
    not read. history_length: how many of the newest events it looks at; None for all. interaction: what there is
    beside the tower. tables, counts: see Tables. Fields are as wide as their tables and stand side by side. Initial
    weights come from torch's generator.
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
        interaction: Interaction = Mlp(),  # noqa: B008 - frozen
        tables: Mapping[str, Table] | None = None,
        counts: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.read = tuple(feature for feature in layout.pooled if feature.name not in without)
        self.target = layout.target if layout.target in self.read else None
        histories = layout.histories if self.target is not None else ()
        self.tables = Tables(layout, (*self.read, *histories), width=width, settings=tables or {}, counts=counts or {})
        self.history = Histories(self.tables, histories, history_length) if histories else None
        self.attention = TargetAttention(self.history.width, hidden=attention) if self.history else None
        widths = [self.tables.width(feature) for feature in self.read] + ([self.history.width] if self.history else [])
        self.numbers = [place for place, name in enumerate(layout.dense) if name not in without]
        size = sum(widths) + len(self.numbers)
        self.tower = tower(size, hidden)
        self.cross = (
            CrossMixture(size, interaction.layers, rank=interaction.rank, experts=1)
            if isinstance(interaction, Dcn)
            else None
        )
        self.pairs = Pairs(widths, width) if isinstance(interaction, Fm) else None
        self.head = nn.Linear((hidden[-1] if hidden else size) + (width if self.pairs else 0), 1)

    def forward(self, ids: Tensor, dense: Tensor) -> Scores:
        """ids: [N, K] int64, dense: [N, D] float32 -> Scores of N rows."""
        fields = [self.tables.pooled(feature, ids) for feature in self.read]
        if self.attention is not None:
            assert self.target is not None
            assert self.history is not None
            fields.append(self.attention(fields[self.read.index(self.target)], *self.history(self.tables, ids)))
        read = dense if len(self.numbers) == len(self.layout.dense) else dense[:, self.numbers]
        input_NH = torch.cat([*fields, read], dim=1)
        hidden_NH = self.tower(input_NH if self.cross is None else self.cross(input_NH))
        if self.pairs is not None:
            hidden_NH = torch.cat([hidden_NH, self.pairs(fields)], dim=1)
        return Scores(logit=self.head(hidden_NH).squeeze(1), hidden=hidden_NH)


class Pairs(nn.Module):
    """sum over pairs f < g of v_f * v_g = ((sum_f v_f)^2 - sum_f v_f^2) / 2, element by element.

    Source: Rendle, Factorization machines (ICDM 2010, lemma 3.1); He & Chua, Neural FM (SIGIR 2017, equation 4), which
    sums over the elements by a head as here. Differs: a field of another width is brought to `width` by a matrix.
    """

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.align = nn.ModuleDict(
            {str(place): nn.Linear(own, width, bias=False) for place, own in enumerate(widths) if own != width}
        )

    def forward(self, fields: Sequence[Tensor]) -> Tensor:
        """F fields [N, E_f] -> [N, E].

        >>> Pairs([1, 1, 1], 1)([torch.tensor([[2.0]]), torch.tensor([[3.0]]), torch.tensor([[5.0]])]).item()  # 6+10+15
        31.0
        """
        same = [self.align[str(n)](field) if str(n) in self.align else field for n, field in enumerate(fields)]
        vector_NFE = torch.stack(same, dim=1)
        return (vector_NFE.sum(dim=1).square() - vector_NFE.square().sum(dim=1)) / 2

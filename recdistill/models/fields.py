"""The student's own tables, and what the columns of a batch are by them: a vector a field."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from recdistill.config.student import Table
from recdistill.models.tables.make import make_table
from recdistill.models.tables.rows import Bits, quantised, reset
from recdistill.types import ABSENT, IdFeature, Layout


class Tables(nn.Module):
    """A table for every name that the features read, each made and as wide as its settings say.

    settings: by table; one that is missing is plain. counts: [V] look-ups of each id, of tables that need them.
    """

    def __init__(
        self,
        layout: Layout,
        features: Iterable[IdFeature],
        *,
        width: int,
        settings: Mapping[str, Table],
        counts: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        names = list(dict.fromkeys(feature.table for feature in features))
        plain = Table()
        self.widths = {name: settings.get(name, plain).width or width for name in names}
        self.names = {name: f"table_{number}" for number, name in enumerate(names)}
        made = {
            name: make_table(settings.get(name, plain), layout.tables[name], self.widths[name], counts.get(name))
            for name in names
        }
        for table in made.values():
            reset(table)
        self.parts = nn.ModuleDict({self.names[name]: table for name, table in made.items()})

    def __getitem__(self, name: str) -> nn.Module:
        return self.parts[self.names[name]]

    def __len__(self) -> int:
        return len(self.parts)

    def width(self, feature: IdFeature) -> int:
        return self.widths[feature.table]

    def rows(self, feature: IdFeature, ids: Tensor) -> Tensor:
        """[..., E] rows of a feature's ids [...]."""
        found: Tensor = self[feature.table](ids)
        return found

    def pooled(self, feature: IdFeature, ids: Tensor) -> Tensor:
        """[N, E]: the row of a single id, the mean of those present in a bag, 0 for an empty one. ids: [N, K]."""
        if feature.kind == "single":
            return self.rows(feature, ids[:, feature.start])
        bag_NT = ids[:, feature.start : feature.start + feature.width]
        present_NT = (bag_NT != ABSENT).to(torch.float32)
        total_NE = (self.rows(feature, bag_NT) * present_NT.unsqueeze(2)).sum(dim=1)
        return total_NE / present_NT.sum(dim=1, keepdim=True).clamp_min(1.0)

    def quantise(self, bits: Mapping[str, Bits]) -> None:
        """Keep the tables of these names as codes, for good."""
        for name, number in bits.items():
            self.parts[self.names[name]] = quantised(self[name], number)


class Histories(nn.Module):
    """The newest events as vectors: the sum of an event's item and outcomes, as wide as the item.

    length: how many; None for all that there are. An outcome of another width is brought to the item's by a matrix.
    """

    def __init__(self, tables: Tables, histories: tuple[IdFeature, ...], length: int | None) -> None:
        super().__init__()
        self.histories = histories
        self.length = min([length or 10**9, *(feature.width for feature in histories)])
        self.width = tables.width(histories[0])
        self.align = nn.ModuleDict(
            {
                str(place): nn.Linear(tables.width(feature), self.width, bias=False)
                for place, feature in enumerate(histories)
                if tables.width(feature) != self.width
            }
        )

    def forward(self, tables: Tables, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids: [N, K] -> events [N, T, E], and [N, T] True where there is one."""
        found = []
        for place, feature in enumerate(self.histories):
            rows_NTE = tables.rows(feature, ids[:, feature.start : feature.start + self.length])
            found.append(self.align[str(place)](rows_NTE) if str(place) in self.align else rows_NTE)
        first = self.histories[0]
        total_NTE: Tensor = sum(found)  # type: ignore[assignment]
        return total_NTE, ids[:, first.start : first.start + self.length] != ABSENT


def pick(names: Collection[str], dense: tuple[str, ...]) -> list[int]:
    """Places of the dense columns of these names."""
    return [place for place, name in enumerate(dense) if name in names]

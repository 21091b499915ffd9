"""Ids to vectors by TorchRec: what every teacher reads, whatever it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torchrec import (
    EmbeddingBagCollection,
    EmbeddingBagConfig,
    EmbeddingCollection,
    EmbeddingConfig,
    KeyedJaggedTensor,
)
from torchrec.modules.embedding_configs import PoolingType

from recdistill.types import ABSENT, IdFeature, Layout

_init = partial(nn.init.normal_, std=0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How wide the input of an interaction is. fields: pooled vectors, a history's among them. dense: numbers."""

    fields: int
    width: int
    dense: int

    @property
    def flat(self) -> int:
        """The width of all of it side by side."""
        return self.fields * self.width + self.dense


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What an interaction reads. vectors: [N, F, E] one per field. dense: [N, D] scaled numbers."""

    vectors: Tensor
    dense: Tensor

    def flat(self) -> Tensor:
        """[N, F * E + D], side by side; under autocast in its type, as every layer that reads it would make it so
        again, and products beside the layers would have factors of two types, which torch does far slower."""
        x_NH = (
            torch.cat([self.vectors.flatten(1), self.dense], dim=1) if self.dense.shape[1] else self.vectors.flatten(1)
        )
        device = x_NH.device.type
        return x_NH.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x_NH


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """vectors: [N, F, E] of all pooled features. query [N, E], events [N, T, E] and mask [N, T] (True where there is
    an event) of the history; None where there is none."""

    vectors: Tensor
    query: Tensor | None
    events: Tensor | None
    mask: Tensor | None


class Embed(nn.Module):
    """Embeds every feature `width` wide.

    Features that share a table with a history live in an EmbeddingCollection (unpooled), because an
    EmbeddingBagCollection cannot share its weights with one; all others are pooled by mean in the latter. Written for
    one device: sharding wraps it from outside.
    """

    def __init__(self, layout: Layout, width: int, device: torch.device) -> None:
        super().__init__()
        self.width = width
        self.target, self.histories = layout.target, layout.histories
        shared = {feature.table for feature in self.histories}
        self.bags = tuple(feature for feature in layout.pooled if feature.table not in shared)
        self.lone = tuple(feature for feature in layout.pooled if feature.table in shared)
        assert all(feature.kind == "single" for feature in self.lone)
        self.bag_tables = EmbeddingBagCollection(tables=self._bag_configs(), device=device) if self.bags else None
        self.tables = EmbeddingCollection(tables=self._configs(), device=device) if self.histories else None

    @property
    def num_fields(self) -> int:
        return len(self.bags) + len(self.lone)

    def _bag_configs(self) -> list[EmbeddingBagConfig]:
        return [
            EmbeddingBagConfig(
                name=table,
                embedding_dim=self.width,
                num_embeddings=features[0].num_rows,
                feature_names=[feature.name for feature in features],
                pooling=PoolingType.MEAN,
                init_fn=_init,
            )
            for table, features in _by_table(self.bags).items()
        ]

    def _configs(self) -> list[EmbeddingConfig]:
        return [
            EmbeddingConfig(
                name=table,
                embedding_dim=self.width,
                num_embeddings=features[0].num_rows,
                feature_names=[feature.name for feature in features],
                init_fn=_init,
            )
            for table, features in _by_table((*self.lone, *self.histories)).items()
        ]

    def forward(self, ids: Tensor) -> Embedded:
        """ids: [N, K] int64."""
        parts: list[Tensor] = []
        query = events = mask = None
        if self.bag_tables is not None:
            pooled, names = self.bag_tables(_keyed(self.bags, ids, skip_absent=True)), [f.name for f in self.bags]
            in_order = list(pooled.keys()) == names  # tables spread over processes come in the order of these
            parts += [pooled.values()] if in_order else [pooled[name] for name in names]
        if self.tables is not None:
            found = self.tables(_keyed((*self.lone, *self.histories), ids, skip_absent=False))
            parts += [found[feature.name].values() for feature in self.lone]
            if self.target is not None:
                steps = (len(ids), self.histories[0].width, self.width)
                query = found[self.target.name].values()
                events = sum(found[f.name].values().view(steps) for f in self.histories)
                mask = ids[:, self.histories[0].columns] != ABSENT
        vectors = torch.cat(parts, dim=1).view(len(ids), self.num_fields, self.width)
        return Embedded(vectors=vectors, query=query, events=events, mask=mask)


def _by_table(features: Sequence[IdFeature]) -> dict[str, list[IdFeature]]:
    grouped: dict[str, list[IdFeature]] = {}
    for feature in features:
        grouped.setdefault(feature.table, []).append(feature)
    return grouped


def _keyed(features: Sequence[IdFeature], ids: Tensor, *, skip_absent: bool) -> KeyedJaggedTensor:
    """The matrix as TorchRec wants it. Unpooled features keep their padding, so that rows stay rectangular."""
    blocks = [ids[:, feature.columns] for feature in features]
    values = torch.cat([block.reshape(-1) for block in blocks])
    present = values != ABSENT
    if skip_absent and not (ids.device.type == "cpu" and present.all()):  # looking costs CUDA a wait, and spares none
        lengths = torch.cat([(block != ABSENT).sum(dim=1) for block in blocks])
        values = values[present]
    else:
        widths = torch.tensor([feature.width for feature in features], device=ids.device)
        lengths = widths.repeat_interleave(len(ids), output_size=len(ids) * len(features))
    return KeyedJaggedTensor(keys=[feature.name for feature in features], values=values, lengths=lengths)

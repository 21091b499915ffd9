"""The large teacher: TorchRec embedding collections, target attention over the history, DCNv2."""

from __future__ import annotations

from collections.abc import Sequence
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

from recdistill.models.layers import Cross, TargetAttention, tower
from recdistill.types import ABSENT, IdFeature, Layout, Scores

_init = partial(nn.init.normal_, std=0.05)


class TeacherModel(nn.Module):
    """Embeds every feature `width` wide, attends from the candidate to the history, crosses all, and adds a tower.

    Features that share a table with a history live in an EmbeddingCollection (unpooled), because an
    EmbeddingBagCollection cannot share its weights with one; all others are pooled by mean in the latter. Written for
    one device: sharding wraps it from outside. Source of the rest: DCN V2 (WWW 2021), parallel structure (figure 1b).
    """

    def __init__(
        self,
        layout: Layout,
        *,
        width: int,
        attention: int,
        cross_layers: int,
        hidden: Sequence[int],
        dropout: float,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.width = width
        self.target, self.histories = layout.target, layout.histories
        shared = {feature.table for feature in self.histories}
        self.bags = tuple(feature for feature in layout.pooled if feature.table not in shared)
        self.lone = tuple(feature for feature in layout.pooled if feature.table in shared)
        assert all(feature.kind == "single" for feature in self.lone)
        self.bag_tables = EmbeddingBagCollection(tables=self._bag_configs(), device=device) if self.bags else None
        self.tables = EmbeddingCollection(tables=self._configs(), device=device) if self.histories else None
        self.attention = TargetAttention(width, attention) if self.target is not None else None
        num_fields = len(self.bags) + len(self.lone) + (1 if self.attention is not None else 0)
        size = num_fields * width + len(layout.dense)
        self.cross = Cross(size, cross_layers)
        self.tower = tower(size, hidden, dropout)
        self.head = nn.Linear(size + (hidden[-1] if hidden else size), 1)

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

    def forward(self, ids: Tensor, dense: Tensor) -> Scores:
        """ids: [N, K] int64, dense: [N, D] float32 -> Scores of N rows."""
        fields = [dense]
        if self.bag_tables is not None:
            fields.append(self.bag_tables(_keyed(self.bags, ids, skip_absent=True)).values())
        if self.tables is not None:
            found = self.tables(_keyed((*self.lone, *self.histories), ids, skip_absent=False))
            fields += [found[feature.name].values() for feature in self.lone]
            if self.attention is not None:
                assert self.target is not None
                steps = (len(ids), self.histories[0].width, self.width)
                key_NTE = sum(found[feature.name].values().view(steps) for feature in self.histories)
                mask_NT = ids[:, self.histories[0].columns] != ABSENT
                fields.append(self.attention(found[self.target.name].values(), key_NTE, mask_NT))
        x_NH = torch.cat(fields, dim=1)
        hidden_NH = self.tower(x_NH)
        logit_N = self.head(torch.cat([self.cross(x_NH), hidden_NH], dim=1)).squeeze(1)
        return Scores(logit=logit_N.float(), hidden=hidden_NH)


def _by_table(features: Sequence[IdFeature]) -> dict[str, list[IdFeature]]:
    grouped: dict[str, list[IdFeature]] = {}
    for feature in features:
        grouped.setdefault(feature.table, []).append(feature)
    return grouped


def _keyed(features: Sequence[IdFeature], ids: Tensor, *, skip_absent: bool) -> KeyedJaggedTensor:
    """The matrix as TorchRec wants it. Unpooled features keep their padding, so that rows stay rectangular."""
    values, lengths = [], []
    for feature in features:
        block = ids[:, feature.columns]
        if skip_absent:
            present = block != ABSENT
            values.append(block[present])
            lengths.append(present.sum(dim=1))
        else:
            values.append(block.reshape(-1))
            lengths.append(torch.full((len(ids),), feature.width, dtype=torch.int64, device=ids.device))
    return KeyedJaggedTensor(
        keys=[feature.name for feature in features], values=torch.cat(values), lengths=torch.cat(lengths)
    )

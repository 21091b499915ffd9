"""The large teacher: embeddings, a history pooled for the candidate, an interaction of all fields, a linear head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.models.embed import Embed, Fields, Shape
from recdistill.plugins import Choice
from recdistill.types import Layout, Scores


class TeacherModel(nn.Module):
    """history and interaction: plug-ins of models/history/ and models/interaction/. Sharding wraps it from outside."""

    def __init__(
        self, layout: Layout, *, width: int, history: Choice, interaction: Choice, device: torch.device
    ) -> None:
        super().__init__()
        self.embed = Embed(layout, width, device)
        self.history: nn.Module | None = history(width) if layout.target is not None else None
        num_fields = self.embed.num_fields + (1 if self.history is not None else 0)
        self.interaction = interaction(Shape(fields=num_fields, width=width, dense=len(layout.dense)))
        self.head = nn.Linear(self.interaction.size, 1)

    def forward(self, ids: Tensor, dense: Tensor) -> Scores:
        """ids: [N, K] int64, dense: [N, D] float32 -> Scores of N rows."""
        embedded = self.embed(ids)
        vectors = embedded.vectors
        if self.history is not None:
            past_NE = self.history(embedded.query, embedded.events, embedded.mask)
            vectors = torch.cat([vectors, past_NE.to(vectors.dtype).unsqueeze(1)], dim=1)
        hidden_NH = self.interaction(Fields(vectors=vectors, dense=dense))
        return Scores(logit=self.head(hidden_NH).squeeze(1).float(), hidden=hidden_NH)

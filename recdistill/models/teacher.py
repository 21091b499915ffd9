"""The large teacher: embeddings, a history pooled for the candidate, an interaction of all fields, a logit per task."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.models.embed import Embed, Fields, Shape
from recdistill.plugins import Choice
from recdistill.types import Layout, Scores


class TeacherModel(nn.Module):
    """history, interaction and head: plug-ins of models/history/, models/interaction/ and models/heads/.

    num_tasks: of the data; the first is data.label. Sharding wraps it from outside.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        width: int,
        history: Choice,
        interaction: Choice,
        head: Choice,
        num_tasks: int = 1,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.embed = Embed(layout, width, device)
        self.history: nn.Module | None = history(width) if layout.target is not None else None
        num_fields = self.embed.num_fields + (1 if self.history is not None else 0)
        self.interaction = interaction(Shape(fields=num_fields, width=width, dense=len(layout.dense)))
        self.head = head(self.interaction.size, num_tasks)

    def forward(self, ids: Tensor, dense: Tensor) -> Scores:
        """ids: [N, K] int64, dense: [N, D] float32 -> Scores of N rows."""
        embedded = self.embed(ids)
        vectors = embedded.vectors
        if self.history is not None:
            past_NE = self.history(embedded.query, embedded.events, embedded.mask)
            vectors = torch.cat([vectors, past_NE.to(vectors.dtype).unsqueeze(1)], dim=1)
        hidden_NH = self.interaction(Fields(vectors=vectors, dense=dense))
        logit_NM = self.head(hidden_NH).float()
        tasks = logit_NM if logit_NM.shape[1] > 1 else None
        return Scores(logit=logit_NM[:, 0], hidden=hidden_NH, tasks=tasks)

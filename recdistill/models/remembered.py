"""Past events that carry what the teacher thought of their item: a frozen vector an item, in the student's graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.models.fields import Histories, Tables


class Remembered(nn.Module):
    """Like the histories that it wraps, each event's vector being added a linear map of its item's memory.

    memory: [items, width] float32, 0 until train/students/memory.py fills it; never trained, shipped with the student.
    """

    memory: Tensor

    def __init__(self, events: Histories, num_items: int, width: int) -> None:
        super().__init__()
        self.events, self.width, self.length = events, events.width, events.length
        self.item = events.histories[0]
        self.map = nn.Linear(width, events.width, bias=False)
        self.register_buffer("memory", torch.zeros(num_items, width))

    def forward(self, tables: Tables, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids: [N, K] -> events [N, T, E], and [N, T] True where there is one."""
        event_NTE, mask_NT = self.events(tables, ids)
        item_NT = ids[:, self.item.start : self.item.start + self.length]
        return event_NTE + self.map(self.memory[item_NT]), mask_NT

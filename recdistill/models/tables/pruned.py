"""Pruned table: values that are too rare to learn from read the out-of-vocabulary row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.types import FIRST_KNOWN, OOV


class Pruned(nn.Module):
    """A smaller table behind a place for each id. place: [V], of 2 or 4 bytes an id."""

    place: Tensor

    def __init__(self, place: Tensor, table: nn.Module) -> None:
        super().__init__()
        self.register_buffer("place", place)
        self.table = table

    def forward(self, ids: Tensor) -> Tensor:
        """ids: [...] int64 -> [..., E]."""
        place = self.place.index_select(0, ids.reshape(-1)).to(torch.int64).reshape(ids.shape)
        found: Tensor = self.table(place)
        return found


def kept(counts: Tensor, min_count: int, keep: int | None) -> Tensor:
    """[V] bool: absent, unknown, and the values looked up often enough; among equals the lower ids are kept.

    >>> kept(torch.tensor([0, 0, 5, 1, 3, 3]), min_count=2, keep=2).tolist()
    [True, True, True, False, True, False]
    """
    often = counts >= min_count
    often[:FIRST_KNOWN] = False
    if keep is not None:
        order = torch.argsort(torch.where(often, counts, -1), descending=True, stable=True)
        often[order[keep:]] = False
    often[:FIRST_KNOWN] = True
    return often


def places(kept: Tensor) -> Tensor:
    """[V] the new place of each id: those kept in order, all others at the out-of-vocabulary row."""
    place = torch.where(kept, torch.cumsum(kept, dim=0) - 1, OOV)
    return compact(place)


def compact(places: Tensor) -> Tensor:
    """The same numbers in 2 bytes where they fit, else in 4."""
    return places.to(torch.int16 if len(places) <= 2**15 else torch.int32)

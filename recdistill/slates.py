"""Flat rows <-> requests: padded views of logits, masked log-softmax, top-k; for objectives and metrics alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Slates:
    """Where each of N flat rows sits in the padded [G, L] view of its requests.

    slot: [N] int64, the row's place in the flattened [G * L] view. mask: [G, L] bool, True where a row sits.
    request: [G] int64, the request of each line, ascending.
    """

    slot: Tensor
    mask: Tensor
    request: Tensor

    def pad(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """[N] -> [G, L], `fill` where there is no row. Differentiable."""
        flat = values.new_full((self.mask.numel(),), fill)
        return flat.scatter(0, self.slot, values).view(self.mask.shape)

    def flat(self, padded: Tensor) -> Tensor:
        """[G, L] -> [N], the inverse of pad."""
        return padded.reshape(-1)[self.slot]

    @property
    def sizes(self) -> Tensor:
        """[G] int64: rows per request, at least 1."""
        return self.mask.sum(dim=1)


def slates(request: Tensor) -> Slates:
    """Group N rows by their request id; rows keep their order inside a request.

    >>> s = slates(torch.tensor([7, 3, 7]))
    >>> s.pad(torch.tensor([1.0, 2.0, 3.0]), fill=-1.0)
    tensor([[ 2., -1.],
            [ 1.,  3.]])
    """
    row = torch.arange(len(request), device=request.device)
    if bool((request[1:] >= request[:-1]).all()):  # no sort, which is most of the cost
        ids, line, sizes = torch.unique_consecutive(request, return_inverse=True, return_counts=True)
        place = row - (torch.cumsum(sizes, 0) - sizes)[line]
    else:
        ids, line, sizes = torch.unique(request, return_inverse=True, return_counts=True)
        order = torch.argsort(line, stable=True)
        place = torch.empty_like(line)
        place[order] = row - (torch.cumsum(sizes, 0) - sizes)[line[order]]
    length = int(sizes.max()) if len(sizes) else 0
    mask = torch.zeros(len(ids) * length, dtype=torch.bool, device=request.device)
    slot = line * length + place
    mask[slot] = True
    return Slates(slot=slot, mask=mask.view(len(ids), length), request=ids)


def log_softmax(logit_GL: Tensor, mask_GL: Tensor) -> Tensor:
    """[G, L] log-probabilities over the rows of each request; 0 at padding, so that products with it vanish.

    >>> log_softmax(torch.tensor([[0.0, 99.0]]), torch.tensor([[True, False]]))
    tensor([[0., 0.]])
    """
    masked_GL = logit_GL.masked_fill(~mask_GL, float("-inf"))
    return torch.log_softmax(masked_GL, dim=1).masked_fill(~mask_GL, 0.0)


def ranks(score_GL: Tensor, mask_GL: Tensor) -> Tensor:
    """[G, L] int64 place of every row in its request by falling score, 0 the best; ties by position, padding last.

    >>> ranks(torch.tensor([[1.0, 3.0, 0.0]]), torch.tensor([[True, True, False]]))
    tensor([[1, 0, 2]])
    """
    order_GL = torch.argsort(score_GL.masked_fill(~mask_GL, float("-inf")), dim=1, descending=True, stable=True)
    return torch.empty_like(order_GL).scatter(
        1, order_GL, torch.arange(order_GL.shape[1], device=order_GL.device).expand_as(order_GL)
    )

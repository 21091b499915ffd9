"""The models of pairs: a vector of each user and of each item, whose product is the logit; along a graph or not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.config.pairs import PairModel
from recdistill.pairs.store import Acts
from recdistill.types import FIRST_KNOWN, Scores


class MatrixFactorisation(nn.Module):
    """logit = u(user) . v(item)

    Source: Rendle et al., BPR (UAI 2009, section 4.3.1), without biases as LightGCN's authors do. The absent and the
    unknown user and item have vectors of zeros, which no training moves. hidden: [N, 2E] the two vectors side by side,
    where gives_hidden is set.
    """

    def __init__(self, user: Tensor, item: Tensor) -> None:
        super().__init__()
        self.user, self.item = nn.Parameter(user), nn.Parameter(item)
        self.gives_hidden = False

    @torch.no_grad()
    def begin(self, user: Tensor, item: Tensor) -> None:
        """Take these as the parameters: [users, E], [items, E]."""
        self.user.copy_(user)
        self.item.copy_(item)

    def begin_step(self) -> None:
        """Say that the parameters have changed."""

    def vectors(self) -> tuple[Tensor, Tensor]:
        """[users, E] and [items, E], of which a logit is the product."""
        return self.user, self.item

    def own(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """[N, E] each: the parameters behind the rows' users and items, before any graph."""
        return self.user.index_select(0, ids[:, 0]), self.item.index_select(0, ids[:, 1])

    def forward(self, ids: Tensor, dense: Tensor) -> Scores:
        """ids: [N, 2] int64 -> Scores of N rows; there are no numbers."""
        users, items = self.vectors()
        user_NE, item_NE = users.index_select(0, ids[:, 0]), items.index_select(0, ids[:, 1])
        hidden = torch.cat([user_NE, item_NE], dim=1) if self.gives_hidden else None
        return Scores(logit=(user_NE * item_NE).sum(dim=1), hidden=hidden)

    def user_vector(self, ids: Tensor, dense: Tensor) -> Tensor:
        """[N, E], of the user's column alone."""
        return self.vectors()[0].index_select(0, ids[:, 0])

    def item_vector(self, ids: Tensor, dense: Tensor) -> Tensor:
        """[N, E], of the item's column alone: what a vector index holds."""
        return self.vectors()[1].index_select(0, ids[:, 1])


class LightGCN(MatrixFactorisation):
    """Vectors that are means over 0 to `layers` steps along the graph of train pairs, A = D^-1/2 R D^-1/2.

    Source: He et al., LightGCN (SIGIR 2020, equations 3, 4 and 8), layers weighing alike. It is trained through the
    graph; what it has learned is two tables of vectors, as of a matrix factorisation, and so it is stored and shipped.
    Propagated once a step: `begin_step` forgets the last one's.
    """

    def __init__(self, user: Tensor, item: Tensor, graph: Acts, layers: int) -> None:
        super().__init__(user, item)
        self.layers = layers
        self._graph = normalised(graph)
        self._found: tuple[Tensor, Tensor] | None = None

    def begin_step(self) -> None:
        self._found = None

    def vectors(self) -> tuple[Tensor, Tensor]:
        if self._found is None or not torch.is_grad_enabled():
            found = self._along()
            if not torch.is_grad_enabled():
                return found
            self._found = found
        return self._found

    def _along(self) -> tuple[Tensor, Tensor]:
        step_VE = torch.cat([self.user, self.item])
        total_VE = step_VE
        for _ in range(self.layers):
            step_VE = Along.apply(self._graph, step_VE)
            total_VE = total_VE + step_VE
        mean_VE = total_VE / (self.layers + 1)
        return mean_VE[: len(self.user)], mean_VE[len(self.user) :]


class Along(torch.autograd.Function):
    """A symmetric sparse matrix times a dense one; the gradient is the same product."""

    @staticmethod
    def forward(ctx: Any, graph_VV: Tensor, value_VE: Tensor) -> Tensor:
        ctx.graph = graph_VV
        return graph_VV @ value_VE

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.graph @ gradient[0].contiguous()


def normalised(graph: Acts) -> Tensor:
    """[V, V] sparse D^-1/2 A D^-1/2 over users, then items; A holds each pair and its mirror image.

    >>> from recdistill.pairs.store import acts
    >>> graph = normalised(acts([0, 0], [0, 1], num_users=1, num_items=2)).to_dense()
    >>> torch.allclose(graph[0], torch.tensor([0, 0.5**0.5, 0.5**0.5]))
    True
    """
    user, item = graph.user, graph.item + graph.num_users
    size = graph.num_users + graph.num_items
    row, column = np.r_[user, item], np.r_[item, user]
    degree = np.bincount(row, minlength=size).astype(np.float64)
    value = 1 / np.sqrt(degree[row] * degree[column])
    order = np.lexsort((column, row))
    starts = np.r_[0, np.cumsum(np.bincount(row, minlength=size))]
    parts = (torch.from_numpy(starts), torch.from_numpy(column[order]), torch.from_numpy(value[order]).float())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the layout is in beta
        return torch.sparse_csr_tensor(*parts, (size, size), check_invariants=False)


def fresh(settings: PairModel, width: int, graph: Acts) -> MatrixFactorisation:
    """A model with first vectors from torch's generator."""
    user, item = (torch.randn((rows, width)) * settings.init for rows in (graph.num_users, graph.num_items))
    user[:FIRST_KNOWN] = item[:FIRST_KNOWN] = 0
    if settings.use == "lightgcn":
        return LightGCN(user, item, graph, settings.layers)
    return MatrixFactorisation(user, item)

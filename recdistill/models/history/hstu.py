"""HSTU: pointwise SiLU attention with a bias by distance, over the history with the candidate as its newest element.

    U, V, Q, K = silu(W norm(x)),    A = silu(Q K^T / sqrt(d) + bias[distance]) / T,    x <- x + W_2 (norm(A V) * U)

An element sees itself and what is older. Nothing is normalised over the history, so that how much was found counts, as
in DIN. Source: Zhai et al., Actions Speak Louder than Words (ICML 2024, arXiv 2402.17152, equations 1 to 3). Published:
ML-1M next item HR@10 .3097, SASRec .2853 (the authors' repository). Differs: a row has one candidate, where the paper's
share a history's encoding; no time gaps in the bias (a batch does not hold them); distances share logarithmic buckets,
so that a history's length is no part of the weights; the last layer is computed for the candidate alone; Q K^T is
scaled by 1 / sqrt(d). An empty history gives 0.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from recdistill.config.sections import Count
from recdistill.models.layers import Dropout
from recdistill.models.sequence import distance_buckets, if_any, with_candidate

_BUCKETS = 16


class Hstu(nn.Module):
    """layers of `heads` heads."""

    def __init__(self, width: int, *, layers: Count = 2, heads: Count = 2, dropout: Dropout = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(width, heads, dropout) for _ in range(layers))

    def forward(self, query_NE: Tensor, key_NTE: Tensor, mask_NT: Tensor) -> Tensor:
        """[N, E] pooled history; mask is True where there is an event."""
        x_NTE, present_NT = with_candidate(query_NE, key_NTE, mask_NT)
        num_steps = x_NTE.shape[1]
        bucket_TT = distance_buckets(num_steps, _BUCKETS, x_NTE.device)
        older_TT = torch.ones_like(bucket_TT, dtype=torch.bool).triu()
        for place, layer in enumerate(self.layers):
            asks = 1 if place + 1 == len(self.layers) else num_steps
            weight_NST = (older_TT[:asks] & present_NT.unsqueeze(1)).to(x_NTE.dtype) / num_steps
            x_NTE = layer(x_NTE[:, :asks], x_NTE, bucket_TT[:asks], weight_NST)
        return if_any(x_NTE[:, 0], mask_NT)


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.head = heads, -(-width // heads)
        inner = self.heads * self.head
        self.norm, self.norm_seen = nn.LayerNorm(width), nn.LayerNorm(inner)
        self.gate_query, self.key_value = nn.Linear(width, 2 * inner), nn.Linear(width, 2 * inner)
        self.bias = nn.Parameter(torch.zeros(_BUCKETS, heads))
        self.out = nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, asks_NSE: Tensor, x_NTE: Tensor, bucket_ST: Tensor, weight_NST: Tensor) -> Tensor:
        """[N, S, E]: the first S elements after this layer; weight: 1 / T where S may see T, else 0."""
        gate_NSE, query_NSE = silu(self.gate_query(self.norm(asks_NSE))).chunk(2, dim=2)
        key_NTE, value_NTE = silu(self.key_value(self.norm(x_NTE))).chunk(2, dim=2)
        query, key, value = (
            x.unflatten(2, (self.heads, self.head)).transpose(1, 2) for x in (query_NSE, key_NTE, value_NTE)
        )
        score = query * self.head**-0.5 @ key.transpose(2, 3)
        score = score + self.bias[bucket_ST].permute(2, 0, 1).to(score.dtype)  # of one type: two are far slower
        seen = (silu(score) * weight_NST.unsqueeze(1).to(score.dtype)) @ value
        out: Tensor = asks_NSE + self.dropout(self.out(self.norm_seen(seen.transpose(1, 2).flatten(2)) * gate_NSE))
        return out

"""Target attention: the past events that have to do with the candidate weigh most."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

_MASKED = (
    -1e4
)  # a score that softmax turns into 0 in float16 and bfloat16 too, yet is finite, for histories without events


class TargetAttention(nn.Module):
    """Pools a history by how much each past event has to do with the candidate.

    a_t = softmax over present events of MLP([q, k_t, q * k_t]),    out = sum_t a_t k_t

    Source: Zhou et al., Deep Interest Network (KDD 2018, section 4.3). Differs: softmax-normalised weights, the product
    q * k instead of the outer product, ReLU instead of Dice. An empty history gives 0.

    The MLP's first layer is W_q q + k_t (W_k + diag(q) W_p): one small matrix per row, so that neither the
    concatenation nor q * k is ever held.
    """

    def __init__(self, width: int, *, hidden: Annotated[int, Field(ge=1)] = 64) -> None:
        super().__init__()
        self.query = nn.Linear(width, hidden)
        self.key = nn.Parameter(torch.empty(width, hidden))
        self.product = nn.Parameter(torch.empty(width, hidden))
        self.out = nn.Linear(hidden, 1)
        for weight in (self.query.weight, self.key, self.product):
            nn.init.uniform_(weight, -((3 * width) ** -0.5), (3 * width) ** -0.5)

    def forward(self, query_NE: Tensor, key_NTE: Tensor, mask_NT: Tensor) -> Tensor:
        """[N, E] pooled history; mask is True where there is an event."""
        first_NEH = self.key + query_NE.unsqueeze(2) * self.product
        hidden_NTH = torch.relu(key_NTE @ first_NEH + self.query(query_NE).unsqueeze(1))
        score_NT = self.out(hidden_NTH).squeeze(2)
        weight_NT = torch.softmax(score_NT.masked_fill(~mask_NT, _MASKED), dim=1) * mask_NT
        return (weight_NT.unsqueeze(1) @ key_NTE).squeeze(1)

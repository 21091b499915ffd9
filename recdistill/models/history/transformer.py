"""Transformer: a self-attention encoder over the history with the candidate as its newest element.

    x = [q, k_1 .. k_T] + P(step),    x <- x + MHA(norm(x)),    x <- x + FFN(norm(x)) per layer,    out = x[candidate]

Source: Chen et al., Behavior Sequence Transformer (DLP-KDD 2019, section 2.2). Published: Taobao offline AUC .7894, DIN
.7866 (table 3). Differs: what the last layer says of the candidate, not of all elements, goes on, so that this layer is
computed for the candidate alone; norm before each part (as SASRec, Kang & McAuley 2018) and a plain ReLU; a position is
a learned linear function of sinusoids of its number instead of a learned row per age, so that a history's length is no
part of the weights. An empty history gives 0.
"""

from torch import Tensor, nn

from recdistill.config.sections import Count
from recdistill.models.layers import Dropout
from recdistill.models.sequence import if_any, sinusoids, with_candidate


class Transformer(nn.Module):
    """layers of `heads` heads; expand: units of the feed-forward layer over the width."""

    def __init__(
        self, width: int, *, layers: Count = 1, heads: Count = 2, expand: Count = 2, dropout: Dropout = 0.0
    ) -> None:
        super().__init__()
        self.place = nn.Linear(width, width)
        self.layers = nn.ModuleList(_Layer(width, heads, expand, dropout) for _ in range(layers))

    def forward(self, query_NE: Tensor, key_NTE: Tensor, mask_NT: Tensor) -> Tensor:
        """[N, E] pooled history; mask is True where there is an event."""
        x_NTE, present_NT = with_candidate(query_NE, key_NTE, mask_NT)
        _, num_steps, width = x_NTE.shape
        x_NTE = x_NTE + self.place(sinusoids(num_steps, width, x_NTE.device).to(x_NTE.dtype))
        for place, layer in enumerate(self.layers):
            last = place + 1 == len(self.layers)
            x_NTE = layer(x_NTE[:, :1] if last else x_NTE, x_NTE, present_NT)
        return if_any(x_NTE[:, 0], mask_NT)


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, expand: int, dropout: float) -> None:
        super().__init__()
        self.heads, inner = heads, heads * -(-width // heads)
        self.norm, self.norm_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, inner), nn.Linear(width, 2 * inner)
        self.out = nn.Linear(inner, width)
        self.hidden = nn.Sequential(nn.Linear(width, expand * width), nn.ReLU(), nn.Linear(expand * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, asks_NSE: Tensor, x_NTE: Tensor, present_NT: Tensor) -> Tensor:
        """[N, S, E]: the first S elements after this layer, having looked at all T."""
        query = self.query(self.norm(asks_NSE)).unflatten(2, (self.heads, -1)).transpose(1, 2)
        both = self.key_value(self.norm(x_NTE)).unflatten(2, (2 * self.heads, -1)).transpose(1, 2)
        key, value = both.chunk(2, dim=1)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=present_NT[:, None, None])
        asks_NSE = asks_NSE + self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        out: Tensor = asks_NSE + self.dropout(self.hidden(self.norm_hidden(asks_NSE)))
        return out

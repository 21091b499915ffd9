"""MMoE: experts that all tasks share, and for each task a gate of its own over them and a tower.

    z_m = tower_m(sum_i softmax(W_m h)_i expert_i(h))

Source: Ma et al., Multi-gate Mixture-of-Experts (KDD 2018, equations 5 to 7). Published: AliExpress NL, click .7195 and
click-and-buy .8574 AUC, single tasks .7203 and .8556. Differs: the experts read what the interaction gives, which the
tasks share, not the embeddings.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from recdistill.config.sections import Count
from recdistill.models.heads._experts import Experts, Gate, Towers
from recdistill.models.layers import Dropout, Sizes


class Mmoe(nn.Module):
    """size: of the hidden vector. num_tasks: logits. expert, tower: units of an expert's and a task's layers."""

    def __init__(
        self,
        size: int,
        num_tasks: int,
        *,
        experts: Count = 4,
        expert: Annotated[Sizes, Field(min_length=1)] = (64,),
        tower: Sizes = (32,),
        dropout: Dropout = 0.0,
    ) -> None:
        super().__init__()
        self.experts = Experts(size, experts, expert, dropout)
        self.gates = nn.ModuleList(Gate(size, experts) for _ in range(num_tasks))
        self.towers = Towers(expert[-1], num_tasks, tower)

    def forward(self, hidden_NH: Tensor) -> Tensor:
        """[N, H] -> [N, M] logits."""
        found = self.experts(hidden_NH)
        out: Tensor = self.towers([gate(hidden_NH, found) for gate in self.gates])
        return out

"""PLE: experts of each task beside shared ones, in levels, so that what harms one task need not be shared with it.

    task m at level l: x_m = gate(x_m; experts of m and shared ones),    shared: x_s = gate(x_s; all experts)
    z_m = tower_m(x_m of the last level)

Source: Tang et al., Progressive Layered Extraction (RecSys 2020, section 4.2). Published: AliExpress NL, click .7268
and click-and-buy .8571 AUC, MMoE .7195 and .8574. Differs: the first level reads what the interaction gives, which the
tasks share, not the embeddings. With one level this is the paper's CGC.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from recdistill.config.sections import Count
from recdistill.models.heads._experts import Experts, Gate, Towers
from recdistill.models.layers import Dropout, Sizes


class Ple(nn.Module):
    """size: of the hidden vector. num_tasks: logits. expert, tower: units of an expert's and a task's layers.

    shared, own: experts of all and of each task, at each of the `levels`.
    """

    def __init__(
        self,
        size: int,
        num_tasks: int,
        *,
        levels: Count = 2,
        shared: Count = 2,
        own: Count = 1,
        expert: Annotated[Sizes, Field(min_length=1)] = (64,),
        tower: Sizes = (32,),
        dropout: Dropout = 0.0,
    ) -> None:
        super().__init__()
        width = expert[-1]
        sizes = [size] + [width] * (levels - 1)
        last = levels - 1
        self.levels = nn.ModuleList(
            _Level(before, num_tasks, shared, own, expert, dropout, share=place < last)
            for place, before in enumerate(sizes)
        )
        self.towers = Towers(width, num_tasks, tower)

    def forward(self, hidden_NH: Tensor) -> Tensor:
        """[N, H] -> [N, M] logits."""
        per_task = [hidden_NH] * len(self.towers.towers)
        shared = hidden_NH
        for level in self.levels:
            per_task, shared = level(per_task, shared)
        out: Tensor = self.towers(per_task)
        return out


class _Level(nn.Module):
    """One extraction level; the last has no gate for what is shared, as nobody reads it."""

    def __init__(
        self, size: int, num_tasks: int, shared: int, own: int, expert: Sizes, dropout: float, *, share: bool
    ) -> None:
        super().__init__()
        self.shared = Experts(size, shared, expert, dropout)
        self.own = nn.ModuleList(Experts(size, own, expert, dropout) for _ in range(num_tasks))
        self.gates = nn.ModuleList(Gate(size, own + shared) for _ in range(num_tasks))
        self.gate = Gate(size, num_tasks * own + shared) if share else None

    def forward(self, per_task: list[Tensor], shared_NH: Tensor) -> tuple[list[Tensor], Tensor]:
        """[N, H] per task and shared -> [N, X] per task and shared."""
        common = self.shared(shared_NH)
        mine = [experts(x_NH) for experts, x_NH in zip(self.own, per_task, strict=True)]
        mixed = [gate(x, [*own, *common]) for gate, x, own in zip(self.gates, per_task, mine, strict=True)]
        if self.gate is None:
            return mixed, shared_NH
        return mixed, self.gate(shared_NH, [expert for own in mine for expert in own] + common)

"""Single: one linear layer, a logit per task; the tasks share all below it.

    z = W h + b

Source: the shared bottom of Caruana, Multitask Learning (1997), which is plain logistic regression for one task.
Published: for one task, AliExpress NL click AUC .7203; several tasks are the baseline that MMoE and PLE are compared
with.
"""

from torch import Tensor, nn


class Single(nn.Module):
    """size: of the hidden vector. num_tasks: logits to give."""

    def __init__(self, size: int, num_tasks: int) -> None:
        super().__init__()
        self.out = nn.Linear(size, num_tasks)

    def forward(self, hidden_NH: Tensor) -> Tensor:
        """[N, H] -> [N, M] logits."""
        out: Tensor = self.out(hidden_NH)
        return out

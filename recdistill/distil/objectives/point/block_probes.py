"""Block-wise logits: a linear probe on every hidden layer of the student is to say what the teacher says.

    L_i = 1/B sum_b BCE(u_b . h_i^b + c_b, sigmoid(t_i)),    h^b the b-th of B hidden layers

Source: one-for-all distillation as in the KDs collection (woriazzc/KDs, `OFA`) and the block-wise logit distillation of
Yang et al.'s survey (2025, arXiv 2504.13825). Differs: the mean over the blocks instead of a sum, and not the student's
own logit, which a term of its own can teach. The probes are dropped at export.

>>> probes = BlockProbes(Facts(student=Widths(fields=(), field=0, pooled=1, blocks=(2, 3), hidden=3)))
>>> for probe in probes.probes:
...     _ = torch.nn.init.zeros_(probe.weight), torch.nn.init.zeros_(probe.bias)
>>> inside = Inside(pooled=None, blocks=(torch.ones(1, 2), torch.ones(1, 3)), from_pooled=None, teacher=None)
>>> scores = Scores(logit=torch.ones(1))
>>> probes(scores, scores, Batch.example(label=[1.0]), inside).exp().detach()  # at 0 every target costs log 2
tensor([2.])
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.distil.facts import Facts
from recdistill.distil.inside import Inside
from recdistill.problems import BadInput, problem
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "blocks"}


class BlockProbes(nn.Module):
    """A probe a block. BadInput for a student without hidden layers."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        assert facts.student is not None
        if not facts.student.blocks:
            remedy = "give it a layer, or use another recipe"
            raise BadInput(problem("student.tower", wanted="a hidden layer to probe", found="none", remedy=remedy))
        self.probes = nn.ModuleList(nn.Linear(width, 1) for width in facts.student.blocks)

    def forward(self, student: Scores, teacher: Scores, batch: Batch, inside: Inside) -> Tensor:
        """[N] loss per row, in nats."""
        target_N = torch.sigmoid(teacher.logit)
        losses = [
            binary_cross_entropy_with_logits(probe(block_NH).squeeze(1), target_N, reduction="none")
            for probe, block_NH in zip(self.probes, inside.blocks, strict=True)
        ]
        return torch.stack(losses).mean(dim=0)

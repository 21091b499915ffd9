"""An ensemble weighed row by row: a gate on the student's fields, which learns from labels, says whom to follow.

    L_i = KL(sigmoid(t_i) || sigmoid(z_i)) + BCE(t_i + o_i, y_i),    t_i = sum_m w_im z'_im,    w_i = softmax(U x_i + c)

z': the logits of the teacher's members; x: what the student's tower reads, cut from the graph; t is cut from the graph
in the first part, so the gate learns from the second alone. It begins with equal weights and is dropped at export.

Source: Zhu et al., Ensembled CTR Prediction via Knowledge Distillation (CIKM 2020, arXiv 2011.04106), teacher gating.
Differs: logits are mixed instead of probabilities; the gate reads the student's fields, as the members' are not at
hand; their early stop by the distillation loss is not taken over. Wants members that were stored: score.members.

>>> widths = Widths(fields=(), field=0, pooled=1, blocks=(), hidden=1)
>>> loss = GatedEnsemble(Facts(student=widths, num_members=2))
>>> inside = Inside(pooled=torch.ones(1, 1), blocks=(), from_pooled=None, teacher=None)
>>> teacher = Scores(logit=torch.zeros(1), members=torch.tensor([[2.0, 0.0]]))  # equal weights: t = 1
>>> found = loss(Scores(logit=torch.ones(1)), teacher, Batch.example(label=[1.0]), inside)
>>> torch.allclose(found.detach(), torch.tensor([math.log(1 + math.exp(-1.0))]))
True
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.distil.facts import Facts
from recdistill.distil.inside import Inside
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "pooled", "members", "labels"}


class GatedEnsemble(nn.Module):
    """One linear gate."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        assert facts.student is not None
        self.gate = nn.Linear(facts.student.pooled, facts.num_members)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, student: Scores, teacher: Scores, batch: Batch, inside: Inside) -> Tensor:
        """[N] loss per row, in nats."""
        assert teacher.members is not None
        weight_NM = torch.softmax(self.gate(inside.pooled.detach()), dim=1)
        mixed_N = (weight_NM * teacher.members.to(weight_NM.dtype)).sum(dim=1)
        goal_N = torch.sigmoid(mixed_N.detach())
        least_N = binary_cross_entropy_with_logits(mixed_N.detach(), goal_N, reduction="none")
        followed_N = binary_cross_entropy_with_logits(student.logit, goal_N, reduction="none") - least_N
        label_N = batch.label.to(mixed_N.dtype)
        fit_N = binary_cross_entropy_with_logits(mixed_N + batch.offset, label_N, reduction="none")
        return followed_N.clamp_min(0) + fit_N

"""Full topology distillation: the cosine between any two rows is to be that of the teacher.

    L_i = 1/(N - 1) sum_{j != i} (cos(h_i, h_j) - cos(h'_i, h'_j))^2

h: of a run of pairs the vectors of the batch's users and items, each once, a row's loss being the mean of its two; else
the rows' last hidden layers. Source: Kang et al., Topology Distillation for Recommender System (KDD 2021, arXiv
2106.08700), section 4.1 (FTD). Differs: the mean over the others instead of their sum, so that the weight does not hang
on the batch. Unlike relation.similarity, rows are normed before they are compared, so that long vectors count no more
than short ones. The N^2 cosines are never held: see gram.py.

>>> widths = Widths(fields=(), field=0, pooled=2, blocks=(2,), hidden=2)
>>> student = Scores(logit=torch.zeros(3), hidden=torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]))
>>> teacher = Scores(logit=torch.zeros(3), hidden=torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.6, 0.8]]))
>>> loss = Topology(Facts(student=widths, teacher=widths))
>>> loss(student, teacher, Batch.example(label=[1.0, 0.0, 0.0]))  # cosines 0, 1, 0 and 0.6, 0.6, 1
tensor([0.2600, 0.6800, 0.5800])
"""

from torch import Tensor, nn
from torch.nn.functional import normalize

from recdistill.distil.entities import entities, num_sides
from recdistill.distil.facts import Facts
from recdistill.distil.gram import gaps
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "hidden", "batch"}


class Topology(nn.Module):
    """Owns nothing."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self.sides = num_sides(facts)

    def forward(self, student: Scores, teacher: Scores, batch: Batch) -> Tensor:
        """[N] loss per row; 0 for a batch of one."""
        found = entities(student, teacher, batch, self.sides)
        own_MH, theirs_MH = normalize(found.own, dim=1), normalize(found.theirs, dim=1)
        own_M, theirs_M = own_MH.square().sum(dim=1), theirs_MH.square().sum(dim=1)  # 1; 0 where there is no vector
        gap_M = gaps((own_MH, own_MH), (theirs_MH, theirs_MH)) - (own_M - theirs_M).square()
        return found.of_rows(gap_M / max(1, len(gap_M) - 1))

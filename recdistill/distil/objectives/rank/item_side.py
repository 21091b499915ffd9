"""The item's side of ranking distillation: of the rows of one item in the batch, those that the teacher puts first.

    L_i = the loss of the list of all rows of row i's item, by rank.relaxed_ranking or rank.dual_correction

Users are ranked for an item as items are for a user. Source: Kang et al., Item-side Ranking Regularized Distillation
(IR-RRD, Information Sciences 2021) for `relaxed_ranking`, the item side of Lee & Kim, Dual Correction (CIKM 2021, arXiv
2109.03459) for `dual_correction`. Differs: an item's users are those whose rows meet in the batch, where theirs are
drawn from a top list of all users; a batch must be large beside the number of items, or most lists are of one row and
have loss 0. Each row carries its list's loss, so that a list counts as much as its rows together.

>>> rows = replace(Batch.example(label=[0.0, 0.0, 0.0]), ids=torch.tensor([[4], [2], [4]]))
>>> loss = ItemSide(Facts(popularity=Popularity(column=0, counts=torch.ones(5))), share=0.5)
>>> student = Scores(logit=torch.tensor([math.log(3.0), 5.0, 0.0]))
>>> teacher = Scores(logit=torch.tensor([1.0, 7.0, 2.0]))
>>> loss(student, teacher, rows).exp()  # of rows 0 and 2 the teacher prefers row 2: (3 + 1) / 1
tensor([4., 1., 4.])
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recdistill.distil import lists
from recdistill.distil.alike import alike
from recdistill.distil.facts import Facts
from recdistill.slates import slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "batch", "item_popularity"}


class ItemSide(nn.Module):
    """share: of an item's rows that is its top. scale: of a difference of ranks, for dual_correction."""

    def __init__(
        self,
        facts: Facts,
        *,
        loss: Literal["relaxed_ranking", "dual_correction"] = "relaxed_ranking",
        share: Annotated[float, Field(gt=0, le=1)] = 0.5,
        scale: Annotated[float, Field(gt=0)] = 0.5,
    ) -> None:
        super().__init__()
        assert facts.popularity is not None
        self.column, self.kind, self.share, self.scale = facts.popularity.column, loss, share, scale

    def forward(self, student: Scores, teacher: Scores, batch: Batch) -> Tensor:
        """[N] loss per row, in nats."""
        item_N, loss_N = batch.ids[:, self.column], torch.zeros_like(student.logit)
        for rows in alike(item_N):
            view = slates(item_N[rows])
            both = view.pad(student.logit[rows]), view.pad(teacher.logit[rows])
            mask_GL = lists.chosen(view, batch.weight[rows])
            if self.kind == "relaxed_ranking":
                loss_G = lists.relaxed_ranking(*both, mask_GL, self.share)
            else:
                loss_G = lists.dual_correction(*both, mask_GL, self.scale)
            loss_N = loss_N.index_copy(0, rows, view.flat(loss_G.unsqueeze(1).expand_as(mask_GL)))
        return loss_N

"""List softmax distillation inside popularity groups: what the teacher says between hits and rarities is not passed on.

    L_r = sum_g n_g / n T^2 KL(P_T(. | r, g) || P_S(. | r, g)),    g the popularity groups among the n rows of request r

Source: the stratification of Chen et al., Unbiased Knowledge Distillation for Recommendation (WSDM 2023, arXiv
2211.14729), with a softmax in the place of sampled pairs; pair.unkd is theirs. Groups have about equal shares of the
train window's interactions. n_g / n makes a row count the same in a small and in a large group; theirs weighs groups
alike. A group of one row has loss 0.

>>> popularity = Popularity(column=0, counts=torch.tensor([1.0, 1.0, 4.0]))
>>> rows = Batch.example(label=[1.0, 0.0, 0.0], request=[8, 8, 8])
>>> rows = replace(rows, ids=torch.tensor([[0], [1], [2]]))
>>> loss = PopularityKl(Facts(popularity=popularity), groups=2)
>>> teacher = Scores(logit=torch.tensor([3.0, 1.0, 999.0]).log())  # the hit is alone in its group
>>> want = 2 / 3 * (3 / 4 * math.log(3 / 4 * 2) + 1 / 4 * math.log(1 / 4 * 2))
>>> torch.allclose(loss(Scores(logit=torch.zeros(3)), teacher, rows), torch.tensor([want]))
True
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recdistill.distil.facts import Facts
from recdistill.slates import log_softmax, slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests", "item_popularity"}


class PopularityKl(nn.Module):
    """groups: of about equal interactions."""

    group: Tensor

    def __init__(
        self,
        facts: Facts,
        *,
        groups: Annotated[int, Field(ge=1)] = 4,
        temperature: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__()
        assert facts.popularity is not None
        self.column, self.groups, self.temperature = facts.popularity.column, groups, temperature
        self.register_buffer("group", facts.popularity.groups(groups))

    def forward(self, student: Scores, teacher: Scores, batch: Batch, *, temperature: float | None = None) -> Tensor:
        """[G] loss per request, ascending by request id, in nats times temperature squared."""
        warm = self.temperature if temperature is None else temperature
        line_N = torch.unique(batch.request, return_inverse=True)[1]
        view = slates(line_N * self.groups + self.group[batch.ids[:, self.column]])
        student_GL = log_softmax(view.pad(student.logit / warm), view.mask)
        teacher_GL = log_softmax(view.pad(teacher.logit / warm), view.mask)
        loss_G = (teacher_GL.exp() * view.mask * (teacher_GL - student_GL)).sum(dim=1) * view.sizes
        request_G = view.request // self.groups
        sizes = torch.bincount(line_N)
        return loss_G.new_zeros(len(sizes)).index_add(0, request_G, loss_G) / sizes * warm**2

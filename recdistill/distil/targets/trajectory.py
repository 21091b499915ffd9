"""A teacher that gets harder: each request follows the first of its members, and moves on as the student learns.

    t_i <- z'_im,    m the stage of row i's request, 0 at first
    at each visit: d = 1 - NDCG(the student's order by the next member's);    m <- m + 1 if d = 0 or
    d > d_before or d_before / d > alpha decay^visits,    d_before of the visit before

NDCG: gain n - r for the row of the next member's place r (0 the best) among n, discount 1 / log2(2 + the student's
place). Members in order, easy to hard; one that was trained for fewer epochs is a checkpoint on the way of a longer
one: teacher.ensemble: [{epochs: 1}, {epochs: 2}, {epochs: 4}], and score.members: true.

Source: Kang et al., Distillation from Heterogeneous Models for Top-K Recommendation (HetComp, WWW 2023), alpha 1.05 and
decay 0.995, looked at every 10 epochs. Differs: looked at whenever the request comes; d = 0, of which theirs has no
ratio, moves on; one trajectory whose last stage is the last member, where theirs is an ensemble of such; a request's
rows instead of a user's top items. What is left is not calibrated from stage to stage, so it is for list terms only.

>>> rows = Batch.example(label=[0.0, 0.0], request=[5, 5])
>>> teacher = Scores(logit=torch.zeros(2), members=torch.tensor([[1.0, 5.0], [2.0, 4.0]]))
>>> walk = Trajectory(Facts(row_id=torch.arange(2)))
>>> student = Scores(logit=torch.tensor([0.0, 1.0]))  # as the first member, not as the second
>>> walk(teacher, rows, student).logit, walk(teacher, rows, Scores(logit=torch.tensor([1.0, 0.0]))).logit
(tensor([1., 2.]), tensor([5., 4.]))
"""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recdistill.distil.facts import Facts, places
from recdistill.slates import Slates, ranks, slates
from recdistill.types import Batch, Scores

NEEDS = {"requests", "student", "members", "rows"}


class Trajectory(nn.Module):
    """What it knows of every row is in its buffers, so that a training can be taken up again."""

    row_id: Tensor
    stage: Tensor
    visits: Tensor
    before: Tensor

    def __init__(
        self,
        facts: Facts,
        *,
        alpha: Annotated[float, Field(gt=0)] = 1.05,
        decay: Annotated[float, Field(gt=0, le=1)] = 0.995,
    ) -> None:
        super().__init__()
        num_rows = len(facts.row_id)
        self.register_buffer("row_id", facts.row_id)
        self.register_buffer("stage", torch.zeros(num_rows, dtype=torch.int64))
        self.register_buffer("visits", torch.zeros(num_rows))
        self.register_buffer("before", torch.full((num_rows,), float("nan")))
        self.alpha, self.decay = alpha, decay

    def forward(self, teacher: Scores, batch: Batch, student: Scores) -> Scores:
        """The scores of each request's member; of a row that the train window does not hold, the first one's."""
        assert teacher.members is not None
        place_N = places(self.row_id, batch.row_id)
        known_N, place_N = place_N >= 0, place_N.clamp_min(0)
        last = teacher.members.shape[1] - 1
        view = slates(batch.request)
        stage_N = self._same(view, self.stage[place_N] * known_N)
        next_N = teacher.members.gather(1, (stage_N + 1).clamp_max(last).unsqueeze(1)).squeeze(1)
        off_N = _distance(view, student.logit, next_N)
        before_N, visits_N = self.before[place_N], self.visits[place_N]
        faster_N = before_N > off_N * self.alpha * self.decay**visits_N  # never of NaN, the visit before the first
        moves_N = (off_N < 1e-9) | (off_N > before_N) | faster_N
        stage_N = (stage_N + self._same(view, (moves_N & known_N).long())).clamp_max(last)
        kept_N = place_N[known_N]
        self.stage[kept_N] = stage_N[known_N]
        self.before[kept_N], self.visits[kept_N] = off_N[known_N].to(self.before), visits_N[known_N] + 1
        return replace(teacher, logit=teacher.members.gather(1, stage_N.unsqueeze(1)).squeeze(1).to(teacher.logit))

    def _same(self, view: Slates, value_N: Tensor) -> Tensor:
        """The largest value of its request for every row."""
        return view.flat(view.pad(value_N).amax(dim=1, keepdim=True).expand_as(view.mask))


def _distance(view: Slates, student_N: Tensor, goal_N: Tensor) -> Tensor:
    """[N] 1 - NDCG of the row's request."""
    own_GL, goal_GL = (ranks(view.pad(logit_N), view.mask).double() for logit_N in (student_N, goal_N))
    gain_GL = (view.sizes.unsqueeze(1) - goal_GL) * view.mask
    reached_G, best_G = ((gain_GL / torch.log2(2 + rank_GL)).sum(dim=1) for rank_GL in (own_GL, goal_GL))
    return view.flat((1 - reached_G / best_G).unsqueeze(1).expand_as(gain_GL))

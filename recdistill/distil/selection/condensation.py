"""Knowledge condensation: rows of which the student has been sure for long are seen rarely, and count more when seen.

    v_i = mean of H(sigmoid(z_i)) over the times that row i was seen * (times / most times) ^ 0.03
    at the start of stage s = 1 .. stages - 1: the (1 - keep) s / (stages - 1) rows of lowest v are thinned
    w_i = 1 / thinned with probability thinned, else 0, for a thinned row;    w_i = 1 for all others

Source: Li et al., Knowledge Condensation Distillation (ECCV 2022, arXiv 2207.05409), keep 0.7. Differs: low rows are
thinned by chance and weighed by 1 / probability instead of dropped, as dropping what the student is sure of, on a log
of few clicks mostly negatives, is down-sampling that would shift every probability; nothing is mixed into the kept
rows. A row not seen yet is kept.

>>> few = Condensation(Facts(row_id=torch.tensor([0, 1])), keep=0.5, stages=2, thinned=0.25)
>>> rows, student = Batch.example(label=[1.0, 0.0]), Scores(logit=torch.tensor([0.0, -9.0]))
>>> few(rows, student, 0.0)
tensor([1., 1.])
>>> weights = torch.stack([few(rows, student, 0.5) for epoch in range(4000)])
>>> weights[:, 0].unique(), weights[:, 1].unique()
(tensor([1.]), tensor([0., 4.]))
>>> 0.9 < weights[:, 1].mean() < 1.1
tensor(True)
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recdistill.distil.entropy import coin_entropy
from recdistill.distil.facts import Facts, places
from recdistill.distil.hashed import uniform
from recdistill.types import Batch, Scores

NEEDS = {"student", "progress"}


class Condensation(nn.Module):
    """keep: share of rows that are never thinned. thinned: how likely another row is kept.

    What it knows of every row is in its buffers, so that a training can be taken up again.
    """

    row_id: Tensor
    entropy: Tensor
    times: Tensor
    low: Tensor
    stage: Tensor

    def __init__(
        self,
        facts: Facts,
        *,
        keep: Annotated[float, Field(gt=0, lt=1)] = 0.7,
        stages: Annotated[int, Field(ge=2)] = 6,
        thinned: Annotated[float, Field(gt=0, lt=1)] = 0.25,
    ) -> None:
        super().__init__()
        num_rows = len(facts.row_id)
        self.register_buffer("row_id", facts.row_id)
        self.register_buffer("entropy", torch.zeros(num_rows))
        self.register_buffer("times", torch.zeros(num_rows))
        self.register_buffer("low", torch.zeros(num_rows, dtype=torch.bool))
        self.register_buffer("stage", torch.zeros((), dtype=torch.int64))
        self.keep, self.stages, self.thinned = keep, stages, thinned

    def forward(self, batch: Batch, student: Scores, progress: float) -> Tensor:
        """[N] weights: 0, 1 or 1 / thinned."""
        place_N = places(self.row_id, batch.row_id)
        stage = min(int(progress * self.stages), self.stages - 1)
        if stage > int(self.stage):
            self._condense(stage)
        times_N = self.times[place_N].long()
        self.entropy[place_N] += coin_entropy(student.logit).float()
        self.times[place_N] += 1
        lucky_N = uniform(batch.row_id * 8191 + times_N, 2) < self.thinned
        weight_N = torch.where(self.low[place_N], lucky_N / self.thinned, 1.0)
        return weight_N.to(batch.weight)

    def _condense(self, stage: int) -> None:
        self.stage.fill_(stage)
        times = self.times.clamp_min(1)
        value = self.entropy / times * (times / times.max()) ** 0.03
        value = torch.where(self.times > 0, value, float("inf"))
        num = int((1 - self.keep) * stage / (self.stages - 1) * len(value))
        self.low.zero_()
        self.low[torch.argsort(value, stable=True)[:num]] = True

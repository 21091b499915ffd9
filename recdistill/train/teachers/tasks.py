"""The loss of a ranker on all its tasks, each over the rows that have its label."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.types import Batch, Scores


def multi_task_loss(scores: Scores, batch: Batch, weights: Sequence[float] = ()) -> Tensor:
    """sum_m w_m mean of BCE(z_m, y_m) over the rows with a label for task m; a task without any gives 0.

    weights: one per task, data.label's first; none is 1 for each. The batch's offset belongs to data.label alone.

    >>> import math, torch
    >>> scores = Scores(logit=torch.zeros(2), tasks=torch.tensor([[0.0, 0.0], [0.0, 3.0]]))
    >>> batch = Batch.example(label=[1.0, 0.0], tasks=[[1.0, 1.0], [0.0, math.nan]])
    >>> multi_task_loss(scores, batch, [1.0, 10.0])  # log(2) + 10 log(2): the second row has no second label
    tensor(7.6246)
    """
    logit_NM = scores.logit.unsqueeze(1) if scores.tasks is None else scores.tasks
    tasks: Tensor | None = None if scores.tasks is None else batch.tasks
    label_NM = batch.label.unsqueeze(1) if tasks is None else tasks
    shift_NM = logit_NM.new_zeros(logit_NM.shape)
    shift_NM[:, 0] = batch.offset
    present_NM = label_NM.isfinite()
    each_NM = binary_cross_entropy_with_logits(logit_NM + shift_NM, label_NM.nan_to_num(0.0), reduction="none")
    mean_M = (each_NM * present_NM).sum(dim=0) / present_NM.sum(dim=0).clamp_min(1)
    weight_M = mean_M.new_ones(len(mean_M)) if not weights else mean_M.new_tensor(list(weights))
    return (mean_M * weight_M).sum()

"""Limit the teacher's logits to [-limit, limit]: a saturated teacher then has no unbounded pull.

    t_i <- min(max(t_i, -limit), limit)

Source: ours, for logit regression, whose gradient grows with the distance.

>>> clip(Scores(logit=torch.tensor([-9.0, 3.0])), Batch.example(label=[1.0, 0.0]), limit=4.0).logit
tensor([-4.,  3.])
"""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from recdistill.types import Batch, Scores


def clip(teacher: Scores, batch: Batch, *, limit: Annotated[float, Field(gt=0)] = 10.0) -> Scores:
    """The teacher's scores with limited logits."""
    return replace(teacher, logit=teacher.logit.clamp(-limit, limit))

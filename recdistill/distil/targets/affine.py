"""Scale and shift the teacher's logits: below 1 a teacher that is too sure is made milder, above 1 it is sharpened.

    t_i <- scale * t_i + shift

Source: Platt scaling (Platt 1999) with given numbers; they are not fitted here.

>>> affine(Scores(logit=torch.tensor([2.0, -4.0])), Batch.example(label=[1.0, 0.0]), scale=0.5, shift=1.0).logit
tensor([ 2., -1.])
"""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from recdistill.types import Batch, Scores


def affine(teacher: Scores, batch: Batch, *, scale: Annotated[float, Field(gt=0)] = 1.0, shift: float = 0.0) -> Scores:
    """The teacher's scores with rescaled logits."""
    return replace(teacher, logit=teacher.logit * scale + shift)

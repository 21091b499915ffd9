"""Scale and shift the teacher's logits: a teacher that is too sure of itself is made milder.

    t_i <- scale * t_i + shift

Source: Platt scaling (Platt 1999) with given numbers; they are not fitted here.

>>> affine(Scores(logit=torch.tensor([2.0, -4.0])), scale=0.5, shift=1.0).logit
tensor([ 2., -1.])
"""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from recdistill.types import Scores


def affine(teacher: Scores, *, scale: Annotated[float, Field(gt=0)] = 1.0, shift: float = 0.0) -> Scores:
    """The teacher's scores with rescaled logits."""
    return replace(teacher, logit=teacher.logit * scale + shift)

"""The teacher's terms go from one weight to another along half a cosine: slowly at both ends.

    m(progress) = end + (start - end) (1 + cos(pi progress)) / 2

Source: the shape of Loshchilov & Hutter, SGDR (ICLR 2017, equation 5), here for the teacher's weight instead of the
learning rate and without restarts.

>>> cosine(0.5, start=1.0, end=0.5).teacher
0.75
"""

import math
from typing import Annotated

from pydantic import Field

from recdistill.distil.multipliers import Multipliers


def cosine(
    progress: float, *, start: Annotated[float, Field(ge=0)] = 1.0, end: Annotated[float, Field(ge=0)] = 0.0
) -> Multipliers:
    """Multipliers at a progress in [0, 1]."""
    return Multipliers(teacher=end + (start - end) * (1 + math.cos(math.pi * progress)) / 2)

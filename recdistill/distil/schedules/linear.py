"""The teacher's terms go from one weight to another in a straight line over the training.

    m(progress) = start + (end - start) progress

Source: teacher annealing (Clark et al., BAM!, ACL 2019, section 3.1), where the teacher's weight goes from 1 to 0.
Differs: the label's terms keep their weight; schedules/annealing.py is the original.

>>> linear(0.25, start=1.0, end=0.0).teacher
0.75
"""

from typing import Annotated

from pydantic import Field

from recdistill.distil.multipliers import Multipliers


def linear(
    progress: float, *, start: Annotated[float, Field(ge=0)] = 1.0, end: Annotated[float, Field(ge=0)] = 0.0
) -> Multipliers:
    """Multipliers at a progress in [0, 1]."""
    return Multipliers(teacher=start + (end - start) * progress)

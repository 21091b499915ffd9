"""Teacher annealing: what the labels gain in weight, the teacher loses.

    label = start + (1 - start) min(1, progress / until),    teacher = 1 - label

Source: Clark et al., BAM! Born-Again Multi-Task Networks (ACL 2019, section 3.1), with start 0 and until 1.

>>> now = annealing(0.25, until=0.5)
>>> now.label, now.teacher
(0.5, 0.5)
"""

from typing import Annotated

from pydantic import Field

from recdistill.distil.multipliers import Multipliers


def annealing(
    progress: float,
    *,
    start: Annotated[float, Field(ge=0, le=1)] = 0.0,
    until: Annotated[float, Field(gt=0, le=1)] = 1.0,
) -> Multipliers:
    """Multipliers at a progress in [0, 1]."""
    label = start + (1 - start) * min(1.0, progress / until)
    return Multipliers(label=label, teacher=1 - label)

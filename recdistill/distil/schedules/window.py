"""A term that takes part in one stretch of the training only: a phase.

    m(progress) = 1 for start <= progress < until, else 0;    until = 1 holds the end too

Source: ours, to write phases of a recipe as its terms' own schedules.

>>> [window(progress, start=0.5).teacher for progress in (0.2, 0.5, 1.0)]
[0.0, 1.0, 1.0]
"""

from typing import Annotated

from pydantic import Field

from recdistill.distil.multipliers import Multipliers


def window(
    progress: float,
    *,
    start: Annotated[float, Field(ge=0, le=1)] = 0.0,
    until: Annotated[float, Field(ge=0, le=1)] = 1.0,
) -> Multipliers:
    """Multipliers at a progress in [0, 1]."""
    inside = float(start <= progress and (progress < until or until == 1))
    return Multipliers(label=inside, teacher=inside)

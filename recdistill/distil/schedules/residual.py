"""First the student, then, with the student frozen, the assistant that learns what it left.

    trains = {0} for progress < at, else {1}

Source: Gao et al., Residual Knowledge Distillation (2020, arXiv 2002.09168): S first, then A on the residual. The
assistant's head starts at 0, so that before `at` the sum of both is the student alone.

>>> [sorted(residual(progress, at=0.6).trains) for progress in (0.5, 0.6)]
[[0], [1]]
"""

from typing import Annotated

from pydantic import Field

from recdistill.distil.multipliers import Multipliers


def residual(progress: float, *, at: Annotated[float, Field(gt=0, lt=1)] = 0.6) -> Multipliers:
    """Multipliers of one, and which of the two learns."""
    return Multipliers(trains=frozenset({0 if progress < at else 1}))

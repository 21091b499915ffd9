"""Ranking distillation weighs by position at first, and by what the student misses too once it ranks at all.

    hybrid = progress >= after

Source: Tang & Wang, Ranking Distillation (KDD 2018), whose dynamic weights begin after 10 of 50 epochs.

>>> [hybrid(progress, after=0.2).settings["hybrid"] for progress in (0.1, 0.2)]
[0.0, 1.0]
"""

from typing import Annotated

from pydantic import Field

from recdistill.distil.multipliers import Multipliers


def hybrid(progress: float, *, after: Annotated[float, Field(ge=0, le=1)] = 0.2) -> Multipliers:
    """Multipliers of one, and the setting hybrid, 0 or 1."""
    return Multipliers(settings={"hybrid": float(progress >= after)})

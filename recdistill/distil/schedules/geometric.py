"""The temperature of every term that has one falls by the same factor in every equal stretch of the training.

    T(progress) = start (end / start)^progress

Source: the annealing of the expert selectors in Kang et al., DE-RRD (CIKM 2020), from 1 to 1e-10 over the epochs.
Differs: ends at 0.01, which already picks one expert.

>>> round(geometric(0.5, start=1.0, end=0.04).settings["temperature"], 6)
0.2
"""

from typing import Annotated

from pydantic import Field

from recdistill.distil.multipliers import Multipliers


def geometric(
    progress: float, *, start: Annotated[float, Field(gt=0)] = 1.0, end: Annotated[float, Field(gt=0)] = 0.01
) -> Multipliers:
    """Multipliers at a progress in [0, 1]."""
    return Multipliers(settings={"temperature": start * (end / start) ** progress})

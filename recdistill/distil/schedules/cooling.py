"""The temperature of every term that has one goes from one value to another in a straight line.

    T(progress) = start + (end - start) progress

Source: the temperature steps of Annealing-KD (Jafari et al., EACL 2021), here without steps.

>>> cooling(0.5, start=4.0, end=1.0).settings
{'temperature': 2.5}
"""

from typing import Annotated

from pydantic import Field

from recdistill.distil.multipliers import Multipliers


def cooling(
    progress: float, *, start: Annotated[float, Field(gt=0)] = 4.0, end: Annotated[float, Field(gt=0)] = 1.0
) -> Multipliers:
    """Multipliers at a progress in [0, 1]."""
    return Multipliers(settings={"temperature": start + (end - start) * progress})

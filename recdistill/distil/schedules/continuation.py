"""Continuation: the labels' weight rises from 0, the teacher's falls, and the teacher's target sharpens in steps.

    label = psi = min(1, progress / rise),    teacher = 1 - psi,    phi = (1 + floor(progress * steps)) / steps

Source: Jafari et al., Continuation KD (Findings of EMNLP 2022, arXiv 2212.05998), where phi = 1 - (T - 1) / T_max and T
falls from T_max to 1: the same numbers for steps = T_max. Differs: by the share of the training that is done instead of
epochs, psi reaching 1 at `rise`, as theirs does at 3/4 (150 of 200 epochs).

>>> now = continuation(0.3, steps=10, rise=0.6)
>>> now.label, now.teacher, now.settings
(0.5, 0.5, {'phi': 0.4})
"""

from typing import Annotated

from pydantic import Field

from recdistill.distil.multipliers import Multipliers


def continuation(
    progress: float,
    *,
    steps: Annotated[int, Field(ge=1)] = 10,
    rise: Annotated[float, Field(gt=0, le=1)] = 0.75,
) -> Multipliers:
    """Multipliers at a progress in [0, 1], and the setting phi in (0, 1]."""
    label = min(1.0, progress / rise)
    phi = min(steps, 1 + int(progress * steps)) / steps
    return Multipliers(label=label, teacher=1 - label, settings={"phi": phi})

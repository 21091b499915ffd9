"""The gates' section: what a candidate must show before it may become champion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recdistill.config.sections import Positive, Section

Metric = Literal["auc", "gauc", "ndcg_at_10"]


class Gates(Section):
    """What a candidate must show before it may become champion; intervals are 95%, over users and seeds."""

    metric: Metric = "auc"
    """The metric of the comparisons with control and champion."""
    floors: dict[Metric, float] = {"auc": 0.5}
    """Least values of the shipped student."""
    control_margin: float = 0.0
    """The low end of student - control must be above this."""
    champion_margin: Annotated[float, Field(ge=0)] = 0.002
    """The low end of shipped student - champion, on the same rows, must be above minus this."""
    max_ece: Positive = 0.05
    max_parameter_share: Positive = 0.125
    """Parameters of the student over those of the teacher."""
    max_drift: Positive | None = None
    """Greatest population stability index of any feature between train and test window; None does not look."""
    max_unknown: Annotated[float, Field(ge=0, le=1)] | None = None
    """Greatest share of out-of-vocabulary values of any id feature in the test window; None does not look."""

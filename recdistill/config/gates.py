"""The gates' section: what a candidate must show before it may become champion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recdistill.config.pairs import PairMetric
from recdistill.config.sections import Count, Positive, Section

Metric = Literal["auc", "gauc", "ndcg_at_10"] | PairMetric
Margin = Annotated[float, Field(ge=0)]
KINDS = ("new_users", "heavy_users", "cold_items", "tail", "hour")
"""Slices that are no feature."""
ITEM_KINDS = {"cold_items", "tail"}
"""Those that need features.history, which says what an item is."""


class Gates(Section):
    """What a candidate must show before it may become champion; intervals are 95%, over users and seeds."""

    metric: Metric = "auc"
    """The metric of the comparisons with control, champion and reference."""
    floors: dict[Metric, float] = {"auc": 0.5}
    """Least values of the shipped student."""
    control_margin: float = 0.0
    """The low end of student - control must be above this."""
    champion_margin: Margin = 0.002
    """The low end of shipped student - champion, on the same rows, must be above minus this."""
    superior: bool = False
    """Also ask that the student beats the champion beyond users and seeds, so that no retrain is promoted by luck."""
    reference_margin: Margin = 0.005
    """The same as champion_margin against the version under the alias `reference`, which stays while champions go."""
    slices: list[str] = []
    """Where the candidate must not be worse either: new_users, heavy_users, cold_items, tail, hour or any feature."""
    slice_margin: Margin = 0.01
    """The low end of shipped - champion in every slice, all of them at once, must be above minus this."""
    slice_users: Count = 30
    """A slice of fewer users is not judged."""
    max_ece: Positive | None = 0.05
    """Greatest calibration error; None does not look."""
    max_parameter_share: Positive = 0.125
    """Parameters of the student over those of the teacher."""
    max_bytes: Count | None = None
    """Of all files of the bundle; None does not look."""
    max_p99_ratio: Positive | None = None
    """p99 of a request of 100 candidates over that of a reference graph, timed in turn; None does not look."""
    max_drift: Positive | None = None
    """Greatest population stability index of any feature between train and test window; None does not look."""
    max_unknown: Annotated[float, Field(ge=0, le=1)] | None = None
    """Greatest share of out-of-vocabulary values of any id feature in the test window; None does not look."""
    denied: list[str] = []
    """Columns that what ships may not ask for or read, such as gender or zip*."""

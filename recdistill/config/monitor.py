"""The monitor section of a run: what is watched after promotion, and when somebody is to be told."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from recdistill.config.sections import Count, Duration, Positive, Section


class Monitor(Section):
    key: str | None = None
    """The column that tells a request's candidates apart, in scored rows and in labels; None: features.history's."""
    window: Literal["hour", "day"] = "day"
    """UTC hours or days, each judged by itself."""
    delay: Duration = timedelta(days=1)
    """How long after a request its labels may come. A window is judged once so much time has passed since its end;
    labels that come later than this are counted and not used, so that it does not matter when one looks."""
    unlabelled: Literal["negative", "left_out"] = "negative"
    """What a scored row without a label in time is: a negative, as where only clicks are logged, or no row at all."""
    slices: list[str] = []
    """Columns of the scored rows; each value with at least 5% of the first window's rows is watched by itself."""
    min_rows: Count = 200
    """Fewer rows of a window, or of a slice of it, are not judged."""
    draws: Annotated[int, Field(ge=50)] = 200
    """Bootstrap draws of users behind every interval, and behind every window's weight in the alarm."""
    false_alarm_every: Annotated[int, Field(ge=10)] = 365
    """Without any change, all alarms of quality together come at most once in this many windows on average."""
    max_psi: Positive = 0.25
    """Greatest drift of a feature from the champion's train window, above what its number of rows explains."""
    max_unknown: Positive = 0.2
    """Greatest share of ids that the champion has not seen."""
    max_error_share: Positive = 0.001
    """Of the scorer's answers since the last look, those of 5xx."""
    max_p99_ms: Positive = 50.0
    """Of the scorer's answers since the last look."""
    max_age: Duration = timedelta(days=7)
    """How long ago the champion's data may end."""
    max_loss: Positive = 0.002
    """gates.metric that staleness may cost on average between two retrains."""

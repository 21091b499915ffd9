"""What training a teacher and a student have in common."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from recdistill.config.sections import Count, Fraction, Positive, Section, duration

Schedule = Literal["constant", "cosine", "linear"]


def _every(value: Any) -> Any:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | str | timedelta)
        or (isinstance(value, int) and value < 1)
    ):
        raise PydanticCustomError("every", "wanted a time, as in 90s or 15m, or a number of steps from 1 on")
    return value if isinstance(value, int) else duration(value)


Every = Annotated[timedelta | int, BeforeValidator(_every)]


class Training(Section):
    """What training a teacher and a student have in common."""

    HARMLESS: ClassVar[frozenset[str]] = frozenset({"snapshot_every", "snapshots_kept", "step_timeout_s"})
    """Settings that no weight depends on: a snapshot of other ones is taken up."""

    epochs: Count = 5
    batch_size: Count = 2048
    learning_rate: Positive
    """Of the dense layers."""
    schedule: Schedule = "constant"
    """How the learning rate of the dense layers goes on after its warm-up: down to 0, or not at all."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of all rows over which the learning rate of the dense layers rises from 0."""
    embedding_learning_rate: Positive
    """Of the embedding tables."""
    embedding_schedule: Schedule = "constant"
    """The same of the embedding tables, without a warm-up."""
    clip_norm: Positive | None = None
    """The greatest norm of the dense layers' gradient, which is scaled down to it; None leaves it alone."""
    ema: Fraction | None = None
    """Judge and keep a moving average of the dense layers, which takes 1 - ema of them at every step, beside tables as
    they are; None keeps all as it is."""
    checks_per_epoch: Count = 1
    """How often the validation AUC is taken; the best weights are kept."""
    patience: Count = 1
    """Stop after this many checks in a row without a better validation AUC."""
    snapshot_every: Every = timedelta(minutes=5)
    """How often all that a killed training goes on from is written: a time, as in 90s or 15m, or a number of steps."""
    snapshots_kept: Count = 2
    """How many of them are kept at a time, besides the best weights."""
    max_rewinds: Annotated[int, Field(ge=0)] = 3
    """How often a training that breaks goes back to its last snapshot, each time with half the learning rates."""
    step_timeout_s: Positive = 1800
    """How long one step, check or snapshot may take before the job is ended, all stacks written down."""

    @property
    def bits(self) -> dict[str, Any]:
        """All settings that a weight depends on, as JSON."""
        return self.model_dump(mode="json", exclude=set(self.HARMLESS))

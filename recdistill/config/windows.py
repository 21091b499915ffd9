"""The windows section of a run: which stretches of the log are retrained on, and what each begins with."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from pydantic import field_validator, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config.sections import Count, Duration, Section, utc


class Windows(Section):
    """Windows of whole partitions of data.partition, in the log's own time (UTC): no clock has a say in them.

    The last partitions of a window that the log holds are its test window, those before them its validation window.
    """

    first: datetime
    """Where the first window begins, with a partition; in UTC where it names no zone."""
    length: Count = 7
    """Partitions of a window."""
    every: Count = 1
    """Partitions from a window to the next."""
    valid: Count = 1
    test: Count = 1
    """Partitions of the validation and of the test window."""
    lateness: Duration = timedelta(0)
    """A missing partition is waited for until the log reaches this far beyond its end; then it is given up."""
    full_every: Count = 7
    """Every so many windows one is trained from fresh weights on all its partitions; those between go on from the run
    before them, with what is new only. 1: all are."""

    _utc = field_validator("first")(utc)

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.length <= self.valid + self.test:
            raise PydanticCustomError("room", "wanted length above valid + test, to leave a train window")
        return self

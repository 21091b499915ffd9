"""What every section of a config is made of: closed, frozen, with durations and instants in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(value: Any) -> Any:
    """`90s`, `15m`, `36h`, `2d` or `1w` as a timedelta; anything else is left for pydantic to refuse.

    >>> duration("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    number, unit = (value[:-1], value[-1:]) if isinstance(value, str) else ("", "")
    if not number.isdigit() or unit not in _UNITS:
        if isinstance(value, timedelta) or (isinstance(value, str) and value.startswith("P")):
            return value  # as pydantic writes it to JSON and reads it again
        raise PydanticCustomError("duration", "wanted a number and a unit, as in 90s, 15m, 36h, 2d or 1w")
    return timedelta(**{_UNITS[unit]: int(number)})


def utc(value: datetime | None) -> datetime | None:
    """The instant in UTC; one without a zone is taken as UTC."""
    if value is None:
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def epoch_us(at: datetime) -> int:
    """Whole microseconds since 1970 of an instant with a zone, exact where a float is not.

    >>> epoch_us(datetime(1970, 1, 2, 1, tzinfo=UTC)) == 25 * 3600 * 10**6
    True
    """
    return (at - _EPOCH) // timedelta(microseconds=1)


Duration = Annotated[timedelta, BeforeValidator(duration), Field(ge=timedelta(0))]


class Section(BaseModel):
    """A closed, frozen part of a config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

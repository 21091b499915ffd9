"""When the events of a hive partition happened, by the value in its path."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from recdistill.config.data import Partition
from recdistill.config.sections import utc


def span(partition: Partition, keys: Mapping[str, str]) -> tuple[datetime, datetime] | None:
    """Begin and end, in UTC, of the partition that a file of these hive keys is in; None where they do not say it.

    >>> [str(at.date()) for at in span(Partition(column="m", format="%Y-%m", length="month"), {"m": "2024-12"})]
    ['2024-12-01', '2025-01-01']
    """
    try:
        begin = utc(datetime.strptime(keys[partition.column], partition.format))
        assert begin is not None
        return begin, following(partition, begin)
    except (KeyError, ValueError):
        return None


def following(partition: Partition, begin: datetime) -> datetime:
    """Where the partition that begins there ends. ValueError after the year 9999."""
    if partition.length == "month":
        return begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
    return begin + timedelta(**{f"{partition.length}s": 1})

"""Which windows there are and which of them are due, by what the log holds and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from recdistill.config.data import Data, Partition
from recdistill.config.windows import Windows
from recdistill.data.log.partitions import following, span
from recdistill.data.log.sources import hive, listed, locate
from recdistill.problems import BadInput, problem

Standing = Literal["due", "waiting", "skipped"]
Held = Mapping[datetime, tuple[str, ...]]  # begin of a partition -> the names of its files


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """[start, end) in UTC. begins: of its partitions, whether the log holds them or not. new: of those among them that
    the window before it had not. tail: of later partitions that may hold its late events."""

    start: datetime
    end: datetime
    begins: tuple[datetime, ...]
    new: tuple[datetime, ...]
    tail: tuple[datetime, ...]

    @property
    def name(self) -> str:
        """By its end, so that names sort in time."""
        return f"{self.end:%Y-%m-%dT%H}"


def held(data: Data) -> dict[datetime, tuple[str, ...]]:
    """The partitions of the log, oldest first. BadInput for a log without files and for a path that says no time."""
    assert data.partition is not None
    place = locate(data.source)
    found: dict[datetime, tuple[str, ...]] = {}
    lines = []
    for name in listed(place, data.format)[1]:
        at = span(data.partition, hive(name))
        if at is None:
            wanted, remedy = f"{data.partition.column}={data.partition.format} in it", "mend data.partition or the path"
            lines.append(problem(place.path(name), wanted=wanted, found="a path without", remedy=remedy))
        else:
            found[at[0]] = (*found.get(at[0], ()), name)
    if lines:
        raise BadInput(lines)
    return {begin: found[begin] for begin in sorted(found)}


def watermark(partition: Partition, log: Collection[datetime]) -> datetime:
    """How far the log reaches: the end of its newest partition."""
    return following(partition, max(log))


def windows(settings: Windows, partition: Partition, until: datetime) -> Iterator[Window]:
    """Every window that ends by `until`, oldest first.

    >>> every_other = Windows(first=datetime(2026, 1, 1), length=3, every=2)
    >>> found = windows(every_other, Partition(column="day"), datetime.fromisoformat("2026-01-07T00:00Z"))
    >>> [(window.start.day, window.end.day, [at.day for at in window.new]) for window in found]
    [(1, 4, [1, 2, 3]), (3, 6, [4, 5])]
    """
    begins = [settings.first]
    while begins[-1] - partition.lateness < until:
        begins.append(following(partition, begins[-1]))
    for at in range(0, len(begins) - settings.length, settings.every):
        own, end = begins[at : at + settings.length], begins[at + settings.length]
        if end > until:
            return
        tail = [begin for begin in begins[at + settings.length :] if begin - partition.lateness < end]
        new = own[-settings.every :] if at else own
        yield Window(start=own[0], end=end, begins=tuple(own), new=tuple(new), tail=tuple(tail))


def standing(settings: Windows, partition: Partition, window: Window, log: Collection[datetime]) -> Standing:
    """Due once every partition is there or given up; skipped where all that would be new in it is given up.

    A partition is given up when the log reaches further than the lateness beyond its end.
    """
    reaches = watermark(partition, log)
    missing = {begin for begin in (*window.begins, *window.tail) if begin not in log}
    if any(reaches < following(partition, begin) + settings.lateness for begin in missing):
        return "waiting"
    return "skipped" if missing.issuperset(window.new) else "due"

"""Who became champion, challenger or shadow, when and why: events, what they add up to, and their chain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from recdistill.problems import BadInput, problem

Stage = Literal["challenger", "shadow", "champion"]
STAGES: tuple[Stage, ...] = ("challenger", "shadow", "champion")
MOST_CHARACTERS = 6000
"""Of an entry, which is what MLflow keeps of a parameter before it cuts it off."""
_FIRST = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A version that reached a stage. at: UTC seconds since 1970. replaced: None where the stage was empty.

    action: "promote" and "rollback" make champions, "challenger" and "shadow" their stage. key: what was done, so that
    doing it again changes nothing.
    """

    action: Literal["promote", "rollback", "challenger", "shadow"]
    version: int
    replaced: int | None
    at: float
    who: str
    why: str
    key: str
    bundle_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What events add up to. champions: those that a rollback can go back through, the present one last."""

    champions: tuple[int, ...] = ()
    challenger: int | None = None
    shadow: int | None = None

    @property
    def champion(self) -> int | None:
        return self.champions[-1] if self.champions else None

    @property
    def previous(self) -> int | None:
        return self.champions[-2] if len(self.champions) > 1 else None


def standing(events: Sequence[Event]) -> Standing:
    """The sum of the events, oldest first; a version is in one stage at most.

    >>> def event(action, version):
    ...     return Event(action=action, version=version, replaced=None, at=0.0, who="", why="", key="")
    >>> standing([event("promote", 1), event("promote", 2), event("rollback", 1), event("promote", 3)]).champions
    (1, 3)
    >>> standing([event("promote", 1), event("challenger", 2), event("shadow", 2), event("challenger", 3)])
    Standing(champions=(1,), challenger=3, shadow=2)
    """
    champions: list[int] = []
    challenger = shadow = None
    for event in events:
        challenger = None if challenger == event.version else challenger
        shadow = None if shadow == event.version else shadow
        if event.action == "challenger":
            challenger = event.version
        elif event.action == "shadow":
            shadow = event.version
        else:
            champions = _next_champions(champions, event)
    return Standing(champions=tuple(champions), challenger=challenger, shadow=shadow)


def _next_champions(champions: list[int], event: Event) -> list[int]:
    if event.action == "rollback" and event.version in champions:
        return champions[: len(champions) - champions[::-1].index(event.version)]
    return champions if champions[-1:] == [event.version] else [*champions, event.version]


def chained(event: Event, entries: Sequence[str]) -> str:
    """The entry of an event after other entries: a line of JSON that names the sha256 of the one before.

    BadInput for one too long to be kept whole.

    >>> event = Event(action="promote", version=2, replaced=1, at=9.0, who="ann", why="better", key="k")
    >>> first = chained(event, [])
    >>> read_chain("log", [first, chained(event, [first])]) == [event, event]
    True
    >>> read_chain("log", [first.replace("ann", "bob"), chained(event, [first])])
    Traceback (most recent call last):
    recdistill.problems.BadInput: log: entry 2: wanted the sha256 of entry 1, found another; find out who changed it
    """
    link = {"number": len(entries) + 1, "before": _before(entries)}
    text = json.dumps({**link, **asdict(event)}, sort_keys=True, allow_nan=False)
    if len(text) > MOST_CHARACTERS:
        wanted = f"at most {MOST_CHARACTERS} characters in an entry"
        raise BadInput(problem("promotion log", wanted=wanted, found=str(len(text)), remedy="give a shorter --why"))
    return text


def read_chain(where: str, entries: Sequence[str]) -> list[Event]:
    """The events of a log's entries. BadInput lists every entry that is not what was once written."""
    lines, events = [], []
    for place, text in enumerate(entries):
        found, broken = _read(text, place + 1, _before(entries[:place]))
        events += [found] if found is not None else []
        if broken is not None:
            lines.append(f"{where}: entry {place + 1}: {broken}; find out who changed it")
    if lines:
        raise BadInput(lines)
    return events


def _read(text: str, number: int, before: str) -> tuple[Event | None, str | None]:
    """The event of an entry, and what is wrong with it."""
    try:
        entry: dict[str, Any] = json.loads(text)
        found, link = entry.pop("number"), entry.pop("before")
        event = Event(**entry)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, f"wanted an event as JSON, found {text[:40]!r}"
    if found != number:
        return event, f"wanted number {number}, found {found}"
    if link != before:
        return event, f"wanted the sha256 of entry {number - 1}, found another"
    return event, None


def _before(entries: Sequence[str]) -> str:
    return hashlib.sha256(entries[-1].encode()).hexdigest() if entries else _FIRST

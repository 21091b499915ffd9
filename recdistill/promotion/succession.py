"""The champion's compare-and-swap: an event is appended after what it was decided on, or it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import TYPE_CHECKING

from recdistill.problems import BadInput, problem
from recdistill.promotion.alias import misplaced_aliases, move_aliases, under_alias
from recdistill.promotion.events import Event, Standing, chained, read_chain, standing
from recdistill.promotion.log import PromotionLog

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Superseded(BadInput):
    """The champion is another one than the version was judged against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """The log of a model, which is the truth, and MLflow's aliases, which follow it."""

    client: MlflowClient
    log: PromotionLog

    def entries(self) -> list[str]:
        """The log as it is written. BadInput where its chain is broken."""
        entries = self.log.entries()
        read_chain(self.log.name, entries)
        return entries

    def events(self) -> list[Event]:
        """The log, oldest first. BadInput where its chain is broken."""
        return read_chain(self.log.name, self.log.entries())

    def add(self, event: Event, replacing: int | EllipsisType | None) -> Event:
        """Append an event unless its key is there; the event of that key. `replaced` is filled in here.

        replacing: the champion that must reign, None for no champion; ... for the one at the first look. Superseded
        where it does not, be it that another process is quicker.
        """
        while True:
            entries = self.log.entries()
            events = read_chain(self.log.name, entries)
            if not entries and self._adopt():
                continue
            now = standing(events)
            replacing = now.champion if replacing is ... else replacing
            done = _done(event, events, now)
            if done is None and replacing != now.champion:
                raise _superseded(self.log.model, event.version, replacing, events)
            if done is None:
                next_one = replace(event, replaced=_replaced(event, now))
                done = next_one if self.log.append(chained(next_one, entries), len(entries) + 1) else None
            if done is not None:
                self.settle()
                return done

    def _adopt(self) -> bool:
        """Begin the log of a store that was in use before with its champion; False where it has none."""
        found = under_alias(self.client, self.log.model, "champion")
        if found is None:
            return False
        first = Event(
            action="promote",
            version=int(found.version),
            replaced=None,
            at=(found.last_updated_timestamp or 0) / 1000,
            who="-",
            why="was champion before the log began",
            key="adopted",
            bundle_sha256=found.tags.get("bundle_sha256", ""),
        )
        self.log.append(chained(first, []), 1)
        return True

    def settle(self) -> Standing:
        """Make aliases and files say what the log says.

        It ends when the log did not grow meanwhile, so that a process that moved an alias too late mends it itself.
        """
        while True:
            entries = self.log.entries()
            events = read_chain(self.log.name, entries)
            found = standing(events)
            if entries:
                move_aliases(self.client, self.log.model, found, {event.version for event in events})
                self.log.keep_copies(entries)
            if self.log.entries() == entries:
                return found

    def misplaced(self) -> list[str]:
        """Aliases and files that differ from the log, a line each."""
        entries = self.log.entries()
        if not entries:
            return []
        lines = misplaced_aliases(self.client, self.log.model, standing(read_chain(self.log.name, entries)))
        kept = self.log.artifact_entries()
        if kept != entries[: len(kept)]:
            remedy = "find out who changed them"
            lines.append(problem(self.log.name, wanted="artifacts as the entries", found="others", remedy=remedy))
        return lines


def _done(event: Event, events: Sequence[Event], now: Standing) -> Event | None:
    """The event that makes this one needless: of the same key, or what made the same version champion."""
    same = [past for past in events if past.key == event.key]
    if not same and event.action == "promote" and now.champion == event.version:
        same = [past for past in events if past.version == now.champion and past.action in ("promote", "rollback")]
    return same[-1] if same else None


def _replaced(event: Event, now: Standing) -> int | None:
    before = {"challenger": now.challenger, "shadow": now.shadow}
    return before.get(event.action, now.champion)


def _superseded(model: str, version: int, wanted: int | None, events: Sequence[Event]) -> Superseded:
    made = [event for event in events if event.action in ("promote", "rollback")]
    found = f"version {made[-1].version}, by {made[-1].who}: {made[-1].why}" if made else "no champion"
    expected = "no champion" if wanted is None else f"version {wanted}"
    where = f"{model}: the champion that version {version} is to replace"
    remedy = "run it again, which judges it against that one, or overrule with `recdistill promote --force`"
    return Superseded(problem(where, wanted=expected, found=found, remedy=remedy))


def back(model: str, events: Sequence[Event], *, why: str, who: str, at: float) -> Event:
    """The event that puts the champion before this one back. BadInput where there is none."""
    found = standing(events)
    if found.previous is None:
        only = "no champion" if found.champion is None else f"version {found.champion} only"
        remedy = "promote another version with `recdistill promote`"
        raise BadInput(problem(model, wanted="a champion before this one", found=only, remedy=remedy))
    digest = next(event.bundle_sha256 for event in reversed(events) if event.version == found.previous)
    return Event(
        action="rollback",
        version=found.previous,
        replaced=found.champion,
        at=at,
        who=who,
        why=why,
        key=f"rollback-{len(events)}-{found.champion}-{found.previous}",
        bundle_sha256=digest,
    )

"""A promotion that somebody asks for: of a version that passed its gates against the champion that there is."""

from __future__ import annotations

from recdistill.problems import BadInput, problem
from recdistill.promotion.events import Event, Stage
from recdistill.promotion.registry import Registry


def promote_by_hand(
    registry: Registry, number: int, *, to: Stage, why: str, who: str | None = None, force: bool = False
) -> Event:
    """Bring a version to a stage. BadInput where it failed, Superseded where it was judged against another champion.

    force: whatever it was judged and whomever against; the champion must be the one at the call even then.
    """
    found = registry.version(number)
    verdict, baseline = found.tags.get("verdict", "missing"), found.tags.get("baseline", "")
    if verdict != "PASS" and not force:
        remedy = "use --force to overrule, with --why"
        raise BadInput(problem(f"version {number}", wanted="verdict PASS", found=verdict, remedy=remedy))
    key = f"manual-{to}-{number}-{len(registry.history())}"
    judged = int(baseline) if baseline else None
    return registry.promote(number, why=why, who=who, key=key, to=to, replacing=... if force else judged)

"""Why a version is what it is: its data, config, code and gates, and whom it replaced, from MLflow alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from recdistill.promotion.alias import aliases
from recdistill.promotion.events import Event, standing
from recdistill.promotion.lineage import LINEAGE, read_artifact
from recdistill.promotion.registry import Registry

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def explain(registry: Registry, number: int) -> dict[str, Any]:
    """Everything that is known of a version; None for what was not kept. BadInput for one that is not there."""
    found = registry.version(number)
    events = registry.history()
    made = read_artifact(registry, found, LINEAGE) or {}
    decided = read_artifact(registry, found, "decision.json") or {}
    mine = [event for event in events if event.version == number]
    return {
        "model": registry.model,
        "version": number,
        "bundle_sha256": found.tags.get("bundle_sha256"),
        "is": [alias for alias, at in aliases(standing(events)).items() if at == number],
        "window": _window(found),
        "fingerprint": found.tags.get("fingerprint"),
        "source": made.get("data", {}).get("source"),
        "config": made.get("config"),
        "code": made.get("code"),
        "commit": made.get("commit"),
        "packages": made.get("packages"),
        "verdict": found.tags.get("verdict"),
        "gates": decided.get("gates", []),
        "baseline": found.tags.get("baseline") or None,
        "predecessor": _predecessor(mine),
        "events": mine,
        "run_id": found.run_id,
    }


def _predecessor(events: Sequence[Event]) -> int | None:
    """The champion that a version replaced when it first became champion."""
    return next((event.replaced for event in events if event.action in ("promote", "rollback")), None)


def _window(found: ModelVersion) -> list[str] | None:
    """Its data window's two ends in UTC; tags have microseconds since 1970."""
    ends = [found.tags.get(f"window_{end}") for end in ("start", "end")]
    return [_moment(int(end)) for end in ends if end is not None] if all(ends) else None


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(" ", "seconds")

"""Versions that no cleaning may touch, each with the reason."""

from __future__ import annotations

from recdistill.promotion.events import standing
from recdistill.promotion.registry import Registry

LAST_CHAMPIONS = 3
_ENDED = ("FINISHED", "FAILED", "KILLED")


def protected_versions(registry: Registry) -> dict[int, str]:
    """Version -> why: under any alias, in a stage, one of the last three champions, or of a run at work.

    Aliases are MLflow's own and the promotion log's, `reference` and those that somebody set by hand among them: where
    the two differ, both are kept.
    """
    found: dict[int, str] = {}
    for version in registry.client.search_model_versions(f"name='{registry.model}'"):
        run = registry.client.get_run(version.run_id) if version.run_id else None
        if run is not None and run.info.status not in _ENDED:
            found[int(version.version)] = "its run is at work"
    events = registry.history()
    reigned: list[int] = []
    for event in reversed(events):
        if event.action in ("promote", "rollback") and event.version not in reigned:
            reigned.append(event.version)
    found |= dict.fromkeys(reigned[:LAST_CHAMPIONS], f"one of the last {LAST_CHAMPIONS} champions")
    now = standing(events)
    found |= dict.fromkeys(now.champions[-LAST_CHAMPIONS:], "a rollback may go back to it")
    stages = {"challenger": now.challenger, "shadow": now.shadow, "champion": now.champion}
    found |= {number: f"it is {stage}" for stage, number in stages.items() if number is not None}
    return found | {number: f"under the alias {alias}" for alias, number in _aliases(registry).items()}


def _aliases(registry: Registry) -> dict[str, int]:
    from mlflow.exceptions import MlflowException

    try:
        aliases = registry.client.get_registered_model(registry.model).aliases
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
    return {alias: int(number) for alias, number in aliases.items()}

"""MLflow's aliases as the promotion log wants them: for people and programs that read models:/NAME@champion."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from recdistill.problems import problem
from recdistill.promotion.events import Standing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

logger = logging.getLogger("recdistill.promotion")
ALIASES = ("previous_champion", "champion", "challenger", "shadow")
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow answers where there is no such alias or version."""


def aliases(found: Standing) -> dict[str, int | None]:
    """Alias -> version, None where it names none; in the order in which they move."""
    numbers = (found.previous, found.champion, found.challenger, found.shadow)
    return dict(zip(ALIASES, numbers, strict=True))


def under_alias(client: MlflowClient, model: str, alias: str) -> ModelVersion | None:
    """The version that MLflow itself has under an alias; None where it has none."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(model, alias)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise


def move_aliases(client: MlflowClient, model: str, found: Standing, known: Collection[int]) -> None:
    """Set those that are elsewhere. One that is not used is taken from a known version, and left to any other."""
    present = _present(client, model)
    for alias, number in aliases(found).items():
        if number is not None and present.get(alias) != number:
            _set(client, model, alias, number)
        elif number is None and present.get(alias) in known:
            client.delete_registered_model_alias(model, alias)


def _present(client: MlflowClient, model: str) -> dict[str, int]:
    found = client.get_registered_model(model).aliases
    return {alias: int(version) for alias, version in found.items()}


def _set(client: MlflowClient, model: str, alias: str, number: int) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_alias(model, alias, str(number))
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        logger.warning("%s: version %d is gone, so there is no alias %s", model, number, alias)


def misplaced_aliases(client: MlflowClient, model: str, found: Standing) -> list[str]:
    """Those that are not where the log has them, a line each."""
    present = _present(client, model)
    remedy = "`recdistill history --settle` moves it there"
    return [
        problem(f"{model}@{alias}", wanted=f"version {number}", found=str(present.get(alias, "none")), remedy=remedy)
        for alias, number in aliases(found).items()
        if number is not None and present.get(alias) != number
    ]

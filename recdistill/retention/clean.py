"""What a run's old steps and versions hold, listed, and removed where that is asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recdistill.config.run import Run
from recdistill.problems import BadInput
from recdistill.promotion.registry import Registry, open_registry
from recdistill.retention.folders import old_folders, remove_folder, size
from recdistill.retention.protected import protected_versions
from recdistill.train.progress import logger

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_DAY_MS = 86_400_000


def clean(run: Run, *, days: float, keep: int, delete: bool, now: float | None = None) -> dict[str, Any]:
    """List what is older than `days` and needed by nothing; remove it where `delete` is set.

    now: seconds since 1970; None is the clock's. Returns {"folders": [{"path", "bytes"}], "versions": [numbers],
    "protected": {version: why}, "deleted": bool}. A version goes before its bundle, so that none is ever without; what
    is protected is asked anew before each.
    """
    now = time.time() if now is None else now
    registry = open_registry(run)
    protected = protected_versions(registry)
    folders = old_folders(run, protected, keep=keep, days=days, now=now)
    versions = _old_versions(registry, protected, days=days, keep=keep, now=now)
    found = {
        "folders": [{"path": str(path), "bytes": size(path)} for path in folders],
        "versions": [int(version.version) for version in versions],
        "protected": {str(number): why for number, why in sorted(protected.items())},
        "deleted": delete,
    }
    if delete:
        for version in versions:
            _remove_version(registry, version)
        for path in folders:
            try:
                remove_folder(path)
            except BadInput as error:
                logger.warning("cleanup: %s stays: %s", path, error.problems[0])
    return found


def _old_versions(
    registry: Registry, protected: Mapping[int, str], *, days: float, keep: int, now: float
) -> list[ModelVersion]:
    found = registry.client.search_model_versions(f"name='{registry.model}'")
    newest = sorted((int(version.version) for version in found), reverse=True)[:keep]
    free = [version for version in found if int(version.version) not in {*protected, *newest}]
    old = [version for version in free if now * 1000 - version.creation_timestamp > days * _DAY_MS]
    return sorted(old, key=lambda version: int(version.version))


def _remove_version(registry: Registry, version: ModelVersion) -> None:
    """The version, then its bundle; the run keeps its figures and its small files."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if int(version.version) in protected_versions(registry):
        return
    assert version.source is not None  # of every version that we registered
    registry.client.delete_model_version(registry.model, str(version.version))
    try:
        get_artifact_repository(version.source, tracking_uri=registry.uri).delete_artifacts()
    except (NotImplementedError, OSError) as error:
        logger.warning("cleanup: the bundle of version %s stays at %s: %s", version.version, version.source, error)

"""A comparison in MLflow: a run with the table, the plot and a metric per model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recdistill.config.run import Run
from recdistill.files import digest
from recdistill.promotion.registry import experiment_id, open_registry
from recdistill.tracking.record import artifacts_of, find_or_create

FILES = ("comparison.csv", "comparison.svg", "comparison.json")


def log_comparison(run: Run, found: Mapping[str, Any], folder: Path) -> str:
    """Log it once; the same comparison again finds its run. Returns the id of the MLflow run."""
    registry = open_registry(run)
    experiment = experiment_id(registry.client, run.experiment, artifacts_of(run))
    key = digest({"comparison": found})
    logged = find_or_create(registry, experiment, key, f"{run.name} comparison", parent=None)
    run_id: str = logged.info.run_id
    for model in found["models"]:
        if "refused" not in model:
            value = model["metrics"][run.gates.metric][0]
            registry.client.log_metric(run_id, f"{run.gates.metric}.{_name(model['name'])}", value)
    for name in FILES:
        registry.client.log_artifact(run_id, str(folder / name))
    registry.client.set_terminated(run_id)
    return run_id


def _name(title: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "-" for letter in title)

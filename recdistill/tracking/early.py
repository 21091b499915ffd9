"""MLflow runs that exist before their result: opened while training, adopted by the record of the finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill import __version__, files
from recdistill.config.run import Run
from recdistill.promotion.registry import Registry, experiment_id
from recdistill.tracking.owner import this_process

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

LIVE, KEY = "recdistill.live", "recdistill.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One process at work on a run. live: the run's identity before it has a key; owner: that process, as tags."""

    uri: str
    experiment: str
    name: str
    live: str
    owner: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def session(run: Run) -> Session:
    """This process at work on a run."""
    return Session(
        uri=run.registry.tracking_uri,
        experiment=run.experiment,
        name=run.name,
        live=identity(run),
        owner=this_process(),
    )


def identity(run: Run) -> str:
    """What a run is before anything of it is known: its settings, window among them, and its folder."""
    return files.digest({"settings": run.model_dump(mode="json"), "folder": str(Path(run.folder).resolve())})


def open_early(registry: Registry, about: Session, child: str | None, parent: str | None) -> MlflowRun:
    """The parent's run or a child's, RUNNING: the unfinished one of an earlier attempt, or a new one."""
    experiment = experiment_id(registry.client, about.experiment, None)
    live = about.live if child is None else f"{about.live}-{child}"
    found = unfinished(registry, experiment, live)
    if found is None:
        tags = {LIVE: live, "recdistill.version": __version__, **about.owner}
        tags |= {} if parent is None else {"mlflow.parentRunId": parent}
        return registry.client.create_run(experiment, tags=tags, run_name=child or about.name)
    for name, value in about.owner.items():
        registry.client.set_tag(found.info.run_id, name, value)
    if found.info.status != "RUNNING":
        registry.client.update_run(found.info.run_id, status="RUNNING")
    return found


def unfinished(registry: Registry, experiment: str, live: str) -> MlflowRun | None:
    """The last run opened early that no record has adopted yet."""
    found = registry.client.search_runs([experiment], f"tags.`{LIVE}` = '{live}'", order_by=["start_time DESC"])
    return next((run for run in found if KEY not in run.data.tags), None)


def points_there(registry: Registry, run: MlflowRun) -> set[tuple[str, int]]:
    """(metric, step) of what was logged while training; asks nothing of a run that was not opened early."""
    if LIVE not in run.data.tags:
        return set()
    history = registry.client.get_metric_history
    return {(name, point.step) for name in run.data.metrics for point in history(run.info.run_id, name)}

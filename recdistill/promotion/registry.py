"""MLflow: versions and aliases of the student, promotion and rollback, and the log of who replaced whom."""

from __future__ import annotations

import getpass
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recdistill.problems import BadInput, problem

if TYPE_CHECKING:  # a server follows a registry, and must not load what trains
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from recdistill.config.run import Run

CHAMPION = "champion"
PREVIOUS = "previous_champion"
_SQLITE = "sqlite:///"
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
_BOUNDED = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
_NO_PICKLE = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false"}

Action = Literal["promote", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change of the champion. at: UTC seconds since 1970. replaced: None for the first champion."""

    action: Action
    version: int
    replaced: int | None
    at: float
    who: str
    why: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """The registered model of a run, in its tracking store."""

    client: MlflowClient
    model: str
    uri: str

    def champion(self) -> ModelVersion | None:
        """The version under the alias; None before the first promotion."""
        return self.aliased(CHAMPION)

    def aliased(self, alias: str) -> ModelVersion | None:
        """The version under an alias; None where there is none."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version_by_alias(self.model, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def find(self, bundle_sha256: str) -> ModelVersion | None:
        """The version of a bundle; None where it was never registered."""
        found = self.client.search_model_versions(f"name='{self.model}' and tags.bundle_sha256='{bundle_sha256}'")
        return min(found, key=lambda version: int(version.version)) if found else None

    def register(self, source: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """The one version of a bundle (tags["bundle_sha256"]): the existing one, or a new one with these tags."""
        from mlflow.exceptions import MlflowException

        existing = self.find(tags["bundle_sha256"])
        if existing is not None:
            return existing
        try:
            self.client.create_registered_model(self.model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self.client.create_model_version(self.model, source, run_id=run_id, tags=dict(tags))

    def version(self, number: int) -> ModelVersion:
        """BadInput for a version that is not there."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version(self.model, str(number))
        except MlflowException:
            have = [int(v.version) for v in self.client.search_model_versions(f"name='{self.model}'")]
            remedy = "`recdistill history` lists the champions"
            raise BadInput(
                problem(
                    self.model,
                    wanted=f"version {number}",
                    found=f"versions {sorted(have) or 'none'}",
                    remedy=remedy,
                )
            ) from None

    def promote(self, version: int, *, why: str, key: str, who: str | None = None, action: Action = "promote") -> None:
        """Make a version champion and write it into the log; a second call with the same key changes nothing.

        Order: previous_champion, champion, log, so that a death on the way leaves one valid champion and a repeat ends
        the same.
        """
        current = self.champion()
        if current is not None and any(event.key == key for event in self.history()):
            return
        replaced = None if current is None else int(current.version)
        if replaced == version:  # a death between alias and log: what it replaced is under previous_champion
            previous = self.aliased(PREVIOUS)
            replaced = None if previous is None else int(previous.version)
        elif replaced is not None and action == "promote":
            self.client.set_registered_model_alias(self.model, PREVIOUS, str(replaced))
        self.client.set_registered_model_alias(self.model, CHAMPION, str(version))
        event = Event(
            action=action,
            version=version,
            replaced=replaced,
            at=time.time(),
            who=who or _me(),
            why=why,
            key=key,
        )
        self._log(event)

    def rollback(self, *, why: str, who: str | None = None) -> Event:
        """Put the champion before this one back. BadInput where there is none."""
        events = self.history()
        stack = champions(events)
        current = self.champion()
        if len(stack) < 2 or current is None:
            found = "no champion" if current is None else f"version {current.version} only"
            remedy = "promote another version with `recdistill promote`"
            raise BadInput(problem(self.model, wanted="a champion before this one", found=found, remedy=remedy))
        target = stack[-2]
        self.version(target)
        self.promote(
            target,
            why=why,
            key=f"rollback-{len(events)}-{current.version}-{target}",
            who=who,
            action="rollback",
        )
        if len(stack) > 2:
            self.client.set_registered_model_alias(self.model, PREVIOUS, str(stack[-3]))
        else:
            self.client.delete_registered_model_alias(self.model, PREVIOUS)
        return self.history()[-1]

    def history(self) -> list[Event]:
        """Every change of the champion, oldest first."""
        experiment = self.client.get_experiment_by_name(f"{self.model}-promotions")
        if experiment is None:
            return []
        runs: list[Any] = []
        token: str | None = None
        while True:
            page = self.client.search_runs([experiment.experiment_id], page_token=token)
            runs += page
            token = page.token
            if not token:
                break
        events = [_event(run.data.tags) for run in runs if "recdistill.key" in run.data.tags]
        return sorted(events, key=lambda event: event.at)

    def _log(self, event: Event) -> None:
        experiment = experiment_id(self.client, f"{self.model}-promotions", None)
        tags = {
            "recdistill.key": event.key,
            "action": event.action,
            "version": str(event.version),
            "replaced": "" if event.replaced is None else str(event.replaced),
            "at": repr(event.at),
            "who": event.who,
            "why": event.why,
        }
        run = self.client.create_run(experiment, tags=tags, run_name=f"{event.action} {event.version}")
        self.client.set_terminated(run.info.run_id)

    @contextmanager
    def download(self, version: ModelVersion) -> Iterator[Path]:
        """The version's bundle in a temporary folder."""
        import mlflow.artifacts

        with tempfile.TemporaryDirectory() as folder:
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=version.source, dst_path=folder, tracking_uri=self.uri
            )
            yield Path(found)


def champions(events: list[Event]) -> list[int]:
    """The champions that a rollback can go back through, the present one last.

    >>> def event(action, version):
    ...     return Event(action=action, version=version, replaced=None, at=0.0, who="", why="", key="")
    >>> champions([event("promote", 1), event("promote", 2), event("rollback", 1), event("promote", 3)])
    [1, 3]
    """
    stack: list[int] = []
    for event in events:
        if event.action == "rollback" and len(stack) > 1:
            stack.pop()
        elif not stack or stack[-1] != event.version:
            stack.append(event.version)
    return stack


def _event(tags: Mapping[str, str]) -> Event:
    return Event(
        action="rollback" if tags["action"] == "rollback" else "promote",
        version=int(tags["version"]),
        replaced=int(tags["replaced"]) if tags["replaced"] else None,
        at=float(tags["at"]),
        who=tags["who"],
        why=tags["why"],
        key=tags["recdistill.key"],
    )


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def open_registry(run: Run) -> Registry:
    """The run's registry. BadInput, within a minute, where the tracking store does not answer."""
    return open_store(run.registry.tracking_uri, run.model)


def open_store(uri: str, model: str) -> Registry:
    """The registry of a model in a tracking store. BadInput, within a minute, where the store does not answer."""
    for name, value in {**_QUIET, **_BOUNDED, **_NO_PICKLE}.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if uri.startswith(_SQLITE):  # whole, because MLflow keeps one engine per URI, wherever the process then stands
        file = Path(uri.removeprefix(_SQLITE)).resolve()
        file.parent.mkdir(parents=True, exist_ok=True)
        uri = f"{_SQLITE}{file}"
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        remedy = "start the server or mend registry.tracking_uri"
        found = str(error).splitlines()[0][:200]
        raise BadInput(
            problem(f"registry.tracking_uri {uri}", wanted="a tracking store", found=found, remedy=remedy)
        ) from None
    return Registry(client=client, model=model, uri=uri)


def experiment_id(client: MlflowClient, name: str, artifacts: str | None) -> str:
    """The experiment of this name, made where it is absent."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=artifacts))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return experiment_id(client, name, artifacts)


def may_answer_later(error: object) -> bool:
    """Whether an error is of the disk, the network or the tracking store, so that the same call may do better later."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, OSError | MlflowException)

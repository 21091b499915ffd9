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
from types import EllipsisType
from typing import TYPE_CHECKING

from recdistill.problems import BadInput, problem
from recdistill.promotion.alias import ABSENT, ALIASES, aliases, under_alias
from recdistill.promotion.events import Event, Stage, Standing, standing
from recdistill.promotion.log import PromotionLog
from recdistill.promotion.log_copy import COPY
from recdistill.promotion.succession import Succession, back

if TYPE_CHECKING:  # a server follows a registry, and must not load what trains
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from recdistill.config.run import Run

_SQLITE = "sqlite:///"
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_BOUNDED = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
_NO_PICKLE = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false"}


class Unreachable(BadInput):
    """The tracking store does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A registered model in its tracking store, and the log of its champions.

    artifacts: where the log's files go, as a URI; None leaves it to the server. copy: this machine's copy of the log;
    None keeps none.
    """

    client: MlflowClient
    model: str
    uri: str
    artifacts: str | None = None
    copy: Path | None = None

    def champion(self) -> ModelVersion | None:
        """The version that the promotion log names; None before the first promotion."""
        return self.aliased("champion")

    def aliased(self, alias: str) -> ModelVersion | None:
        """The version under an alias; None where there is none, or it was deleted.

        What champion, challenger and so on are the promotion log says, as soon as there is one: MLflow's own aliases
        follow it, and one that a dying process or a hand left elsewhere misleads nobody here.
        """
        events = self.history()
        if not events or alias not in ALIASES:
            return under_alias(self.client, self.model, alias)
        number = aliases(standing(events))[alias]
        return None if number is None else self._version(number)

    def _version(self, number: int) -> ModelVersion | None:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version(self.model, str(number))
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise

    def find(self, bundle_sha256: str) -> ModelVersion | None:
        """The version of a bundle, the first where two were registered at once; None where it never was."""
        found = self._versions_of(bundle_sha256)
        return found[0] if found else None

    def _versions_of(self, bundle_sha256: str) -> list[ModelVersion]:
        found = self.client.search_model_versions(f"name='{self.model}' and tags.bundle_sha256='{bundle_sha256}'")
        return sorted(found, key=lambda version: int(version.version))

    def register(self, source: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """The one version of a bundle (tags["bundle_sha256"]): the existing one, or a new one.

        It has these tags then, unless it has reached a stage already: then it keeps those that it got there with.
        """
        found = self._versions_of(tags["bundle_sha256"])
        if not found:
            self._create_model()
            self.client.create_model_version(self.model, source, run_id=run_id, tags=dict(tags))
            found = self._versions_of(tags["bundle_sha256"])
        for later in found[1:]:  # made at the same time as the first, which everybody takes
            self._delete(later)
        if found[0].tags != tags and not self.reached_a_stage(int(found[0].version)):
            self._tag(found[0], tags)
        return found[0]

    def result_stands(self, version: ModelVersion) -> bool:
        """Whether a registered candidate is not to be judged again: it failed, or it has reached a stage.

        One that passed and was not promoted met another champion on the way, and has to face that one.
        """
        return version.tags.get("verdict") == "FAIL" or self.reached_a_stage(int(version.version))

    def reached_a_stage(self, version: int) -> bool:
        """Whether a version has ever been challenger, shadow or champion."""
        return any(event.version == version for event in self.history())

    def _create_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _delete(self, version: ModelVersion) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.delete_model_version(self.model, str(version.version))
        except MlflowException as error:
            if error.error_code not in ABSENT:  # another process was quicker
                raise

    def _tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Replace tags; a version whose tags are half new has no verdict, and so does not pass."""
        number = str(version.version)
        if "verdict" in version.tags:
            self.client.delete_model_version_tag(self.model, number, "verdict")
        for name in sorted(tags, key=lambda name: name == "verdict"):
            self.client.set_model_version_tag(self.model, number, name, tags[name])

    def version(self, number: int) -> ModelVersion:
        """BadInput for a version that is not there."""
        found = self._version(number)
        if found is not None:
            return found
        have = [int(v.version) for v in self.client.search_model_versions(f"name='{self.model}'")]
        remedy = "`recdistill history` lists the champions"
        wanted, listed = f"version {number}", f"versions {sorted(have) or 'none'}"
        raise BadInput(problem(self.model, wanted=wanted, found=listed, remedy=remedy))

    def promote(
        self,
        version: int,
        *,
        why: str,
        key: str,
        who: str | None = None,
        to: Stage = "champion",
        replacing: int | EllipsisType | None = ...,
    ) -> Event:
        """Bring a version to a stage, once: a second call with the same key changes nothing.

        replacing: the champion that the version was judged against, None for no champion; left out, the one there is
        now. Superseded where another one reigns, or comes to reign while this runs.
        """
        event = Event(
            action="promote" if to == "champion" else to,
            version=version,
            replaced=None,
            at=time.time(),
            who=who or user(),
            why=why,
            key=key,
            bundle_sha256=self.version(version).tags.get("bundle_sha256", ""),
        )
        return self._succession.add(event, replacing)

    def rollback(self, *, why: str, who: str | None = None) -> Event:
        """Put the champion before this one back. BadInput where there is none; Superseded where another one is made."""
        event = back(self.model, self.history(), why=why, who=who or user(), at=time.time())
        self.version(event.version)
        return self.add(event)

    def add(self, event: Event) -> Event:
        """Log what was done elsewhere, once. Superseded where the champion that it replaced is not that any more."""
        return self._succession.add(event, event.replaced)

    def history(self) -> list[Event]:
        """Every change of a stage, oldest first. BadInput where the log is not what was once written."""
        return self._succession.events()

    def log_entries(self) -> list[str]:
        """The promotion log as it is written, oldest first, its chain checked."""
        return self._succession.entries()

    def settle(self) -> Standing:
        """Make MLflow's aliases and the log's files say what the log says. Safe at any time, and after any death."""
        return self._succession.settle()

    def misplaced(self) -> list[str]:
        """Aliases and files that differ from the log, a line each."""
        return self._succession.misplaced()

    @property
    def _succession(self) -> Succession:
        log = PromotionLog(client=self.client, model=self.model, artifacts=self.artifacts, copy=self.copy)
        return Succession(client=self.client, log=log)

    @contextmanager
    def download(self, version: ModelVersion) -> Iterator[Path]:
        """The version's bundle in a temporary folder."""
        import mlflow.artifacts

        with tempfile.TemporaryDirectory() as folder:
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=version.source, dst_path=folder, tracking_uri=self.uri
            )
            yield Path(found)


def user() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def open_registry(run: Run) -> Registry:
    """The run's registry. Unreachable, within a minute, where the tracking store does not answer."""
    return open_store(run.registry.tracking_uri, run.model, copy=Path(run.folder) / COPY)


def open_store(uri: str, model: str, copy: Path | None = None) -> Registry:
    """The registry of a model in a tracking store. Unreachable, within a minute, where the store does not answer."""
    for name, value in {**_QUIET, **_BOUNDED, **_NO_PICKLE}.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    artifacts = None
    if uri.startswith(_SQLITE):  # whole, because MLflow keeps one engine per URI, wherever the process then stands
        file = Path(uri.removeprefix(_SQLITE)).resolve()
        file.parent.mkdir(parents=True, exist_ok=True)
        uri, artifacts = f"{_SQLITE}{file}", (file.parent / "mlflow-artifacts").as_uri()
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        remedy = "start the server or mend registry.tracking_uri"
        found = str(error).splitlines()[0][:200]
        raise Unreachable(
            problem(f"registry.tracking_uri {uri}", wanted="a tracking store", found=found, remedy=remedy)
        ) from None
    return Registry(client=client, model=model, uri=uri, artifacts=artifacts, copy=copy)


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

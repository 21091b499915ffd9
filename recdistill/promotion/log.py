"""The promotion log in MLflow: a run whose parameters are its entries, of which each place can be written only once.

That is the compare-and-swap: a parameter of a run never changes, the database itself refuses a second one of its name.
Of any number of processes on any number of hosts that append after the same entry, one succeeds. Nothing is held
meanwhile, so nothing has to expire, no clock is compared, and a process that is killed leaves an entry or none.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.problems import BadInput, problem
from recdistill.promotion.log_copy import check_goes_on, read_copy, write_copy

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

_RUN = "recdistill.log"
_FOLDER = "promotions"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionLog:
    """The log of a registered model. artifacts: where its experiment keeps them; None leaves it to the server.

    copy: this machine's copy; None keeps none.
    """

    client: MlflowClient
    model: str
    artifacts: str | None
    copy: Path | None

    @property
    def name(self) -> str:
        """Of the experiment."""
        return f"{self.model}-promotion-log"

    def entries(self) -> list[str]:
        """Oldest first; none before the first append. BadInput where they do not go on from this machine's copy."""
        seen = [] if self.copy is None else read_copy(self.copy)  # before the log, which others may add to
        entries = self._entries()
        if self.copy is not None:
            check_goes_on(self.name, seen, entries, self.copy)
        return entries

    def _entries(self) -> list[str]:
        run_id = self._run_id()
        if run_id is None:
            return []
        params = self.client.get_run(run_id).data.params
        places = [_place(number) for number in range(1, len(params) + 1)]
        missing = [place for place in places if place not in params]
        if missing:
            remedy = "find out who removed them"
            raise BadInput(
                problem(self.name, wanted=f"entries 1 to {len(params)}", found=f"none at {missing}", remedy=remedy)
            )
        return [params[place] for place in places]

    def append(self, entry: str, number: int) -> bool:
        """Write the entry of a number; False where another one has it. The same entry twice is one."""
        from mlflow.exceptions import MlflowException

        run_id = self._run_id() or self._begin()
        try:
            self.client.log_param(run_id, _place(number), entry)
        except MlflowException as error:
            found = self._entries()[number - 1 : number]
            if not found:
                raise error from None  # of the store: nobody has this place yet
            return found == [entry]
        return True

    def keep_copies(self, entries: Sequence[str]) -> None:
        """This machine's file, and a file an entry beside the run: nobody can overwrite anybody's with another."""
        if self.copy is not None and len(read_copy(self.copy)) < len(entries):
            write_copy(self.copy, entries)
        run_id = self._run_id()
        if run_id is None:
            return
        kept = {info.path for info in self.client.list_artifacts(run_id, _FOLDER)}
        for number, entry in enumerate(entries, start=1):
            path = f"{_FOLDER}/{_place(number)}.json"
            if path not in kept:
                self.client.log_text(run_id, entry, path)

    def artifact_entries(self) -> list[str]:
        """The entries as the files have them, those that were not written left out."""
        run_id = self._run_id()
        if run_id is None or not self.client.list_artifacts(run_id, _FOLDER):
            return []
        with tempfile.TemporaryDirectory() as folder:
            found = Path(self.client.download_artifacts(run_id, _FOLDER, folder))
            return [path.read_text() for path in sorted(found.iterdir())]

    def _run_id(self) -> str | None:
        experiment: Experiment | None = self.client.get_experiment_by_name(self.name)
        if experiment is None:
            return None
        if experiment.lifecycle_stage != "active":
            remedy = "restore it, it says who is champion"
            raise BadInput(problem(self.name, wanted="an experiment", found="a deleted one", remedy=remedy))
        return str(experiment.tags[_RUN])

    def _begin(self) -> str:
        """The run of a new log. An experiment is made whole and then given its name, which only one can have."""
        from mlflow.exceptions import MlflowException

        made = self.client.create_experiment(f"{self.name}.{uuid.uuid4().hex}", artifact_location=self.artifacts)
        run = self.client.create_run(made, run_name="promotion log", tags={"mlflow.note.content": _note(self.model)})
        self.client.set_terminated(run.info.run_id)
        self.client.set_experiment_tag(made, _RUN, run.info.run_id)
        try:
            self.client.rename_experiment(made, self.name)
        except MlflowException:
            if self._run_id() is None:
                raise
            self.client.delete_experiment(made)
        found = self._run_id()
        assert found is not None
        return found


def _place(number: int) -> str:
    return f"{number:06d}"


def _note(model: str) -> str:
    return f"Every change of the champion of {json.dumps(model)}, a parameter each. Do not delete it."

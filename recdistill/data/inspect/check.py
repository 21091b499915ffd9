"""What a run would find in its log: a profile of every column, the windows, and all that breaks the contract."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow.parquet as pq

from recdistill.config.run import Run
from recdistill.data.admit import dropped_rows
from recdistill.data.contract.whole import check_whole
from recdistill.data.inspect.profile import Profile, profile
from recdistill.data.log.listing import Log
from recdistill.data.parts import QUARANTINE
from recdistill.data.prepare import Survey, open_checked, read_view, survey
from recdistill.problems import BadInput

RUN = "run"  # stands for the run's folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """survey, num_bad: the windows, and how many rows are left out; None where there are problems."""

    log: Log
    profile: Profile
    survey: Survey | None
    num_bad: int | None
    problems: list[str]

    def to_json(self) -> dict[str, Any]:
        log = {"files": len(self.log.files), "rows": self.log.num_rows, "fingerprint": self.log.fingerprint}
        found = {} if self.survey is None else self.survey.to_json()
        return {"log": log, "columns": self.profile.to_json(), **found, "bad": self.num_bad, "problems": self.problems}


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder of which nothing stays but, where it holds bad rows that problems speak of, the quarantine."""
    folder = Path(mkdtemp(prefix="recdistill-check-"))
    try:
        yield folder
    finally:
        evidence = folder / RUN / QUARANTINE
        if evidence.exists() and pq.read_metadata(evidence).num_rows:
            for path in [path for path in folder.rglob("*") if path.is_file() and path != evidence]:
                path.unlink()
        else:
            shutil.rmtree(folder)


def check(run: Run, folder: Path) -> Checked:
    """Look at a log as prepare does; all that is written is under `folder`, an empty folder.

    BadInput where the log cannot be opened, or lacks what the config wants.
    """
    elsewhere, out = run.model_copy(update={"root": str(folder / RUN)}), folder / "out"
    out.mkdir()
    log = open_checked(elsewhere)
    seen = profile(run, log)
    try:
        found = survey(run, log, read_view(elsewhere, log, out))
    except BadInput as error:
        whole = check_whole(run, log, seen.file_rows, seen.file_positives)
        problems = list(dict.fromkeys([*error.problems, *whole]))
        return Checked(log=log, profile=seen, survey=None, num_bad=None, problems=problems)
    return Checked(log=log, profile=seen, survey=found, num_bad=len(dropped_rows(out)), problems=[])

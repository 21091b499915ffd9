"""The story of the system: the steps in order, and run_all, which does those whose inputs or settings changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recdistill import evaluate, export, files, score, shipped
from recdistill.code import code_digest
from recdistill.config.run import Run
from recdistill.data import prepare
from recdistill.data.log.listing import Log
from recdistill.pairs import evaluate as pairs_evaluate
from recdistill.pairs import export as pairs_export
from recdistill.pairs import prepare as pairs_prepare
from recdistill.pairs import student as pairs_student
from recdistill.pairs import teacher as pairs_teacher
from recdistill.problems import BadInput, problem
from recdistill.promotion import decide, promote
from recdistill.report.write import keep_report
from recdistill.tracking.live import watched
from recdistill.train.engine.snapshot_folders import forget
from recdistill.train.progress import logger
from recdistill.train.students import student
from recdistill.train.teachers import teacher, warm

Inputs = Mapping[str, Path]
Body = Callable[[Run, Inputs, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: reads the folders of other steps, writes its own. What it depends on makes its key.

    sections: the config that it reads. outside: what it reads beyond files, as JSON. holds: whether what it did outside
    is still so; where not, it is done again. pairs: the body of a run with data.pairs; None where it is the same.
    """

    name: str
    body: Body
    pairs: Body | None = None
    reads: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    outside: Callable[[Run, Inputs], Any] | None = None
    holds: Callable[[Run, Path], bool] | None = None

    def of(self, run: Run) -> Body:
        """What it does for a run of this shape."""
        return self.body if self.pairs is None or run.data.pairs is None else self.pairs


STEPS = (
    Step(
        name="prepare",
        body=prepare.prepare,
        pairs=pairs_prepare.prepare,
        sections=("data", "features"),
        outside=prepare.grown,
    ),
    Step(
        name="train_teacher",
        body=teacher.train_teacher,
        pairs=pairs_teacher.train_teacher,
        reads=("prepare",),
        sections=("teacher", "seed", "device", "threads"),
        outside=warm.begun_from,
    ),
    Step(
        name="score",
        body=score.score,
        pairs=pairs_teacher.score,
        reads=("prepare", "train_teacher"),
        sections=("score",),
        outside=shipped.shipped_digest,
    ),
    Step(
        name="distil",
        body=student.distil,
        pairs=pairs_student.distil,
        reads=("prepare", "train_teacher", "score"),
        sections=("student", "recipe", "seed", "device", "threads"),
        outside=student.outside,
    ),
    Step(
        name="export",
        body=export.export,
        pairs=pairs_export.export,
        reads=("prepare", "distil"),
        sections=("export",),
    ),
    Step(
        name="evaluate",
        body=evaluate.evaluate,
        pairs=pairs_evaluate.evaluate,
        reads=("prepare", "score", "export"),
        sections=("evaluate",),
    ),
    Step(
        name="decide",
        body=decide.decide,
        reads=("prepare", "train_teacher", "distil", "export", "evaluate"),
        sections=("gates",),
        outside=decide.facing,
    ),
    Step(
        name="publish",
        body=promote.publish,
        reads=("prepare", "train_teacher", "distil", "export", "evaluate", "decide"),
        sections=("registry", "name"),
        holds=promote.is_published,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A run, as far as it was asked for. folders: step -> its folder. did: the steps that had to work."""

    folders: dict[str, Path]
    did: tuple[str, ...]


def plain_call(step: Step, run: Run, inputs: Inputs, final: Path, key: str) -> None:
    """Do one step: its folder appears whole or not at all."""
    reads = [folder.name for folder in inputs.values()]
    with files.whole_folder(final, {"step": step.name, "key": key, "reads": reads}) as out:
        step.of(run)(run, inputs, out)


Call = Callable[[Step, Run, Inputs, Path, str], None]


def run_all(run: Run, call: Call = plain_call, until: str = "publish") -> Done:
    """Bring the steps up to `until` up to date, in order, each by `call`; one with an unchanged key is skipped.

    BadInput for bad data, before anything is written where that can be known, and for a second run in the same folder.
    """
    writes = run.data.negatives is not None  # opening such a log writes it
    log = None if writes else prepare.open_checked(run)
    root = Path(run.folder)
    with files.only_one(root), watched(run):
        files.sweep(root)
        log = log or prepare.open_checked(run)
        folders: dict[str, Path] = {}
        did: list[str] = []
        for step in STEPS[: [step.name for step in STEPS].index(until) + 1]:
            inputs = {name: folders[name] for name in step.reads}
            key = _key(step, run, inputs, log)
            folders[step.name] = final = root / f"{step.name}-{key[:12]}"
            if _is_done(step, run, final, key):
                forget(root, final)
                continue
            call(step, run, inputs, final, key)
            forget(root, final)
            did.append(step.name)
        if not did:
            logger.info("nothing to do: every step up to %s is up to date in %s", until, root)
        if until == STEPS[-1].name:
            keep_report(run, folders)
        return Done(folders=folders, did=tuple(did))


def finished(run: Run) -> dict[str, Path]:
    """The folders of all steps. BadInput where one has still to be done."""
    return run_all(run, call=_refuse).folders


def _refuse(step: Step, run: Run, inputs: Inputs, final: Path, key: str) -> None:
    remedy = "do `recdistill run` with the same settings first"
    raise BadInput(problem(run.folder, wanted="a finished run", found=f"{step.name} still to be done", remedy=remedy))


def prepared(run: Run, log: Log) -> Path | None:
    """The folder of the prepare step, where it is up to date for this log."""
    step = STEPS[0]
    key = _key(step, run, {}, log)
    final = Path(run.folder) / f"{step.name}-{key[:12]}"
    return final if _is_done(step, run, final, key) else None


def _is_done(step: Step, run: Run, final: Path, key: str) -> bool:
    about = files.manifest(final)
    return about is not None and about["key"] == key and (step.holds is None or step.holds(run, final))


def _key(step: Step, run: Run, inputs: Inputs, log: Log) -> str:
    """sha256 over all that the step's result depends on: settings, upstream keys, data, code and outside state."""
    recipe = run.recipe.recipe()
    plugins = [*recipe.files, *recipe.without_teacher().files] if "recipe" in step.sections else []
    plugins += run.teacher.files if "teacher" in step.sections else []
    upstream = {name: files.manifest(folder) for name, folder in inputs.items()}
    return files.digest(
        {
            "step": step.name,
            "settings": run.section(*step.sections),
            "upstream": {name: about["key"] for name, about in upstream.items() if about is not None},
            "data": None if step.reads else log.fingerprint,
            "code": code_digest(Path(inspect.getfile(step.of(run))), *plugins),
            "outside": None if step.outside is None else step.outside(run, inputs),
        }
    )

"""The distil step: students by the recipe, and as many controls without the teacher, seed by seed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recdistill.config.recipe import RecipeSection
from recdistill.config.run import Run
from recdistill.config.student import Student
from recdistill.data.batches import Batches
from recdistill.data.encoder import Encoder
from recdistill.data.store import Rows, open_rows
from recdistill.distil.facts import Widths
from recdistill.distil.lesson import Lesson
from recdistill.distil.recipe import Recipe
from recdistill.files import write_json
from recdistill.models.build import Ranker
from recdistill.train.device import choose_device, ready_process
from recdistill.train.engine.course import Trained
from recdistill.train.engine.loop import train
from recdistill.train.predict import auc_on, load_weights, save_weights
from recdistill.train.predict import weights_name as teacher_weights
from recdistill.train.progress import logger
from recdistill.train.students.earlier import newest
from recdistill.train.students.known import facts, stored_widths, widths
from recdistill.train.students.live import Live
from recdistill.train.students.look_ups import look_ups
from recdistill.train.students.memory import remember
from recdistill.train.students.shape import (
    AS_DESCRIBED,
    build_partner,
    build_student,
    optimisers,
    parts,
    trained_student,
)
from recdistill.train.students.taught import Taught, live_teacher, taught
from recdistill.train.students.teacher_pca import begin_as_teacher
from recdistill.train.students.unlabelled import Unlabelled
from recdistill.train.students.warm import begin_as_earlier
from recdistill.train.teachers.warm import ENCODER, folder_digest
from recdistill.types import Batch, Layout

Arm = Literal["student", "control"]
ARMS: tuple[Arm, Arm] = ("student", "control")
_COUNTS = "counts.safetensors"
_OWN = 1_000_003  # added to the seed of what a recipe owns, so that the student's weights do not hang on it


def distil(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Train both arms with the same seeds, initial weights, batches and budget; write weights and students.json.

    The student that ships is the seed of the best validation AUC.
    """
    ready_process(run.threads)
    save_weights(_counts(run, open_rows(inputs["prepare"], "train")), out / _COUNTS)
    trained: dict[Arm, list[Trained]] = {"student": [], "control": []}
    for number in range(run.student.seeds):
        control = fit_student(run, inputs, run.recipe, run.seed + number, arm="control")
        student = fit_student(run, inputs, run.recipe, run.seed + number, arm="student", control=control)
        for arm, result in zip(ARMS, (student, control), strict=True):
            save_weights(result.weights, out / weights_name(arm, number))
            trained[arm].append(result)
    aucs = [result.best.valid_auc for result in trained["student"]]
    speed = {arm: sum(result.curve[-1].rows_per_s for result in trained[arm]) / len(aucs) for arm in ARMS}
    more = 100 * (speed["control"] / speed["student"] - 1)
    logger.info("distil: a row costs the student %+.0f%% of the control's time (teacher: %s)", more, run.recipe.teacher)
    about: dict[str, Any] = {
        "parameters": sum(v.numel() for v in trained["student"][0].weights.values() if v.is_floating_point()),
        "shipped": aucs.index(max(aucs)),
        "rows_per_s": speed,
        "curves": {arm: [[check.to_json() for check in t.curve] for t in trained[arm]] for arm in ARMS},
    }
    write_json(out / "students.json", about)
    shutil.copytree(inputs["prepare"] / ENCODER, out / ENCODER)


def outside(run: Run, inputs: Mapping[str, Path]) -> Any:
    """The folders of earlier runs that the recipe and a warm start read, for the step's key; None without any."""
    folder, warm = run.recipe.previous, run.student.warm_start
    read = None if folder is None else [newest(Path(folder), step).name for step in ("prepare", "score", "distil")]
    return read if warm is None else [read, folder_digest(Path(warm), "distil", "student.warm_start")]


def fit_student(
    run: Run,
    inputs: Mapping[str, Path],
    section: RecipeSection,
    seed: int,
    *,
    arm: Arm,
    control: Trained | None = None,
) -> Trained:
    """Train one student, or its control, by a recipe; writes nothing.

    inputs: folders of prepare, score and train_teacher. control: that of the same recipe and seed, for recipes that
    learn from the student's own first generation; trained here where it is not at hand. BadInput for a recipe that this
    run cannot give what it needs.
    """
    rows = open_rows(inputs["prepare"], "train")
    recipe, given = section.recipe(), Taught()
    if arm == "control":
        recipe = recipe.without_teacher()
    else:
        earlier_self = section.teacher == "self" or "first_generation" in recipe.needs
        if earlier_self and control is None:
            control = fit_student(run, inputs, section, seed, arm="control")
        given = taught(run, inputs, section, rows, control if earlier_self else None)
    live = arm == "student" and section.teacher == "live"
    with live_teacher(run, inputs, rows.layout, wanted=live) as teacher:
        pupil = _pupil(run, inputs, section, recipe, seed, arm, rows, given, teacher)
        return _train(run, inputs, recipe, seed, arm, rows, given, pupil)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pupil:
    student: Ranker
    lesson: Lesson
    optimisers: list[torch.optim.Optimizer]


def _pupil(
    run: Run,
    inputs: Mapping[str, Path],
    section: RecipeSection,
    recipe: Recipe,
    seed: int,
    arm: Arm,
    rows: Rows,
    given: Taught,
    teacher: Live | None,
) -> _Pupil:
    """A fresh student with all that it learns by. The control is as the run describes it, whatever the recipe."""
    device, counts = choose_device(run.device), _counts(run, rows)
    torch.manual_seed(seed)
    taught_here = arm == "student"
    student = build_student(run, rows.layout, counts, section.student if taught_here else AS_DESCRIBED)
    frozen: list[nn.Parameter] = []
    if taught_here and section.init == "teacher_pca":
        begin_as_teacher(student.tables, load_weights(inputs["train_teacher"], teacher_weights(0)))
        frozen = [] if section.trains_tables else list(student.tables.parameters())
    if taught_here and section.student.memory is not None:
        remember(student, rows, given.scores)
    if run.student.warm_start is not None:
        _warm(run, inputs, student, seed, arm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + _OWN)
        joint = section.partner if taught_here else None
        partner = None if joint is None else build_partner(run, rows.layout, counts, joint, student)
        known = facts(
            run,
            inputs,
            recipe.needs,
            rows,
            student=student,
            teacher=_teacher_widths(run, given, teacher, partner),
            num_members=1 if given.scores is None or given.scores.members is None else given.scores.members.shape[1],
            others=given.others,
        )
        models = [student] if partner is None else [student, partner]
        for model in models:
            model.to(device)
        lesson = Lesson(
            recipe,
            known,
            student=student,
            teacher=teacher,
            partner=partner,
            parts=[[p for p in part if all(p is not other for other in frozen)] for part in parts(student)],
        ).to(device)
    for parameter in frozen:
        parameter.requires_grad_(False)
    return _Pupil(student=student, lesson=lesson, optimisers=optimisers(run.student, models, lesson, frozen))


def _warm(run: Run, inputs: Mapping[str, Path], student: Ranker, seed: int, arm: Arm) -> None:
    """Each arm begins as the same arm and seed did end; as the first one where there were fewer seeds."""
    folder = Path(run.student.warm_start or "")
    own = weights_name(arm, seed - run.seed)
    name = own if (folder / own).is_file() else weights_name(arm, 0)
    begin_as_earlier(student, Encoder.open(inputs["prepare"] / ENCODER), folder, name)


def _teacher_widths(run: Run, given: Taught, teacher: Live | None, partner: Ranker | None) -> Widths | None:
    if teacher is not None:
        return teacher.widths
    return stored_widths(given.scores) if partner is None else widths(run, partner, frozenset())


def _train(
    run: Run, inputs: Mapping[str, Path], recipe: Recipe, seed: int, arm: Arm, rows: Rows, given: Taught, pupil: _Pupil
) -> Trained:
    device, scores = choose_device(run.device), given.scores
    if scores is not None and "hidden" not in recipe.needs:
        scores = replace(scores, hidden=None)  # else every step would read vectors that nothing looks at
    batches = Batches(rows=rows, batch_size=run.student.batch_size, shuffle=recipe.shuffle, seed=seed, teacher=scores)
    more = Unlabelled(run, inputs, scored=given.scores is not None) if recipe.unlabelled else None

    def losses(batch: Batch, progress: float) -> dict[str, Tensor]:
        batch = batch if more is None else more.beside(batch)
        return pupil.lesson.losses(batch.to(device), progress)

    student = pupil.student
    return train(
        f"{arm} {seed - run.seed}",
        _patient(run.student) if recipe.moves else run.student,
        batches,
        losses=losses,
        optimisers=pupil.optimisers,
        valid_auc=auc_on(student, open_rows(inputs["prepare"], "valid"), device),
        weights=lambda: {name: value.detach().cpu().clone() for name, value in student.state_dict().items()},
    )


def _patient(settings: Student) -> Student:
    """The same budget, but to its end: where weights move over the training, an early check says little of the last."""
    return settings.model_copy(update={"patience": settings.epochs * settings.checks_per_epoch})


def _counts(run: Run, rows: Rows) -> dict[str, Tensor]:
    return look_ups(rows, run.student.counted(rows.layout.tables))


def weights_name(arm: Arm, number: int) -> str:
    return f"{arm}-{number}.safetensors"


def open_student(run: Run, layout: Layout, folder: Path, arm: Arm, number: int) -> Ranker:
    """A trained student or control of a distil folder, on the CPU, in evaluation mode."""
    shape = run.recipe.student if arm == "student" else AS_DESCRIBED
    weights = load_weights(folder, weights_name(arm, number))
    return trained_student(run, layout, load_weights(folder, _COUNTS), weights, shape)

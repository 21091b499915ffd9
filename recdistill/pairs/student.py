"""The distil step of pairs: students by the recipe, and as many controls without the teacher, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from recdistill.config.recipe import RecipeSection
from recdistill.config.run import Run
from recdistill.files import write_json
from recdistill.pairs.begin import closest
from recdistill.pairs.fit import Pupil, fit
from recdistill.pairs.lists import open_teacher
from recdistill.pairs.models import MatrixFactorisation
from recdistill.pairs.teacher import given, parameters
from recdistill.train.device import ready_process
from recdistill.train.engine.course import Trained
from recdistill.train.predict import load_weights, save_weights
from recdistill.train.students.student import ARMS, Arm, weights_name


def distil(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Train both arms with the same seeds, first vectors, labelled rows and budget; write weights and students.json.

    The student that ships is the seed that is best on the validation window.
    """
    ready_process(run.threads)
    trained: dict[Arm, list[Trained]] = {"student": [], "control": []}
    for number in range(run.student.seeds):
        for arm in ARMS:
            result = fit_student(run, inputs, run.recipe, run.seed + number, arm=arm)
            save_weights(result.weights, out / weights_name(arm, number))
            trained[arm].append(result)
    best = [result.best.valid_auc for result in trained["student"]]
    about: dict[str, Any] = {
        "parameters": parameters(trained["student"][0]),
        "shipped": best.index(max(best)),
        "rows_per_s": {arm: sum(t.curve[-1].rows_per_s for t in trained[arm]) / len(best) for arm in ARMS},
        "curves": {arm: [[check.to_json() for check in t.curve] for t in trained[arm]] for arm in ARMS},
    }
    write_json(out / "students.json", about)


def fit_student(run: Run, inputs: Mapping[str, Path], section: RecipeSection, seed: int, *, arm: Arm) -> Trained:
    """Train one student, or its control, by a recipe; writes nothing."""
    recipe, on = section.recipe(), given(run, inputs["prepare"])
    if arm == "control":
        recipe = recipe.without_teacher()
    else:
        teacher = open_teacher(inputs["score"], inputs["prepare"])
        first = closest(teacher.user, teacher.item, run.student.width) if section.init == "teacher_pca" else None
        on = replace(on, teacher=teacher, lists=section.lists, first=first)
    pupil = Pupil(
        title=f"{arm} {seed - run.seed}",
        settings=run.student,
        width=run.student.width,
        spec=run.student.pairs,
        recipe=recipe,
        seed=seed,
        metric=run.gates.metric,
        stays=arm == "student" and not section.trains_tables,
    )
    return fit(pupil, on)


def open_vectors(folder: Path, arm: Arm, number: int) -> MatrixFactorisation:
    """What a trained student or control of a distil folder has learned, in evaluation mode."""
    weights = load_weights(folder, weights_name(arm, number))
    return MatrixFactorisation(weights["user"], weights["item"]).eval()

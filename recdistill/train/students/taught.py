"""Where a student's teacher comes from: stored scores, the teacher live, an earlier run, its own first generation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recdistill.config.recipe import RecipeSection
from recdistill.config.run import Run
from recdistill.data.scores import StoredScores, open_scores
from recdistill.data.store import Rows
from recdistill.distil.facts import RowLogits
from recdistill.problems import BadInput, problem
from recdistill.train.device import choose_device
from recdistill.train.engine.course import Trained
from recdistill.train.predict import predict
from recdistill.train.students.earlier import by_row, earlier
from recdistill.train.students.live import Live
from recdistill.train.students.look_ups import look_ups
from recdistill.train.students.shape import trained_student
from recdistill.train.teachers.folds import OUT_OF_FOLD
from recdistill.train.teachers.teacher import open_teacher
from recdistill.types import Layout

_STORES = {"in_sample": "train", "out_of_fold": OUT_OF_FOLD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """scores: of the train window's rows, in their order; None where they come otherwise. others: see Facts."""

    scores: StoredScores | None = None
    others: Mapping[str, RowLogits] = field(default_factory=dict)


def taught(run: Run, inputs: Mapping[str, Path], section: RecipeSection, rows: Rows, control: Trained | None) -> Taught:
    """control: the student's first generation, where the recipe asks for it. BadInput for scores that are not there."""
    scores: StoredScores | None = None
    others: dict[str, RowLogits] = {}
    if section.previous is not None:
        others |= earlier(run, Path(section.previous), inputs["prepare"])
    if control is not None:
        logit = first_generation(run, rows, control)
        others["first_generation"] = by_row(rows["row_id"], logit)
        scores = StoredScores(logit=logit)
    if section.teacher == "stored":
        scores = _stored(inputs, section, rows)
    needs = section.recipe().needs
    if "hidden" in needs and section.teacher == "stored" and (scores is None or scores.hidden is None):
        remedy = "set score.hidden to float16 or int8, or teacher: live in the recipe"
        wanted = "stored hidden vectors of the teacher, which the recipe learns from"
        raise BadInput(problem("score.hidden", wanted=wanted, found="none", remedy=remedy))
    if "members" in needs and (scores is None or scores.members is None):
        remedy = "set score.members to true, and teacher.members or teacher.ensemble to several"
        wanted = "stored logits of the teacher's members, which the recipe learns from"
        raise BadInput(problem("score.members", wanted=wanted, found="none", remedy=remedy))
    return Taught(scores=None if section.teacher in ("live", "joint") else scores, others=others)


def _stored(inputs: Mapping[str, Path], section: RecipeSection, rows: Rows) -> StoredScores:
    name = _STORES[section.scores]
    if not (inputs["score"] / name).exists():
        where, wanted = f"recipe.scores: {section.scores}", f"a score store {name} in {inputs['score']}"
        raise BadInput(
            problem(where, wanted=wanted, found="none", remedy="set teacher.folds, or use scores: in_sample")
        )
    return open_scores(inputs["score"], name, rows, inputs["prepare"])


def first_generation(run: Run, rows: Rows, control: Trained) -> NDArray[np.float32]:
    """[N] logits of a trained control."""
    counts = look_ups(rows, run.student.counted(rows.layout.tables))
    model = trained_student(run, rows.layout, counts, control.weights)
    device = choose_device(run.device)
    return predict(model.to(device), rows, device)


@contextmanager
def live_teacher(run: Run, inputs: Mapping[str, Path], layout: Layout, *, wanted: bool) -> Iterator[Live | None]:
    """The frozen teacher; None where it is not wanted."""
    if not wanted:
        yield None
        return
    state = torch.get_rng_state()
    with open_teacher(run, layout, inputs["train_teacher"]) as teacher:
        torch.set_rng_state(state)
        yield Live(teacher, layout)

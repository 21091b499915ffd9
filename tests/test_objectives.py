"""The contract of an objective, over every one that is found; and that none carries a gradient into the teacher."""

import dataclasses

import pytest
from objective_checks import CHECKS
from objective_rows import BY_LABEL, FACTS, GROUPED, OBJECTIVES, TOP, data, each_case, subject
from torch import nn

from recdistill.distil.lesson import Lesson
from recdistill.distil.recipe import Recipe, Term
from recdistill.plugins import Choice, choose
from recdistill.types import Scores


def test_there_are_objectives_of_every_sort():
    assert len(OBJECTIVES) >= 12
    assert len({name.split(".")[0] for name in OBJECTIVES}) >= 4
    assert len([p for p in OBJECTIVES.values() if "requests" in p.needs]) >= 6
    assert len([p for p in OBJECTIVES.values() if "teacher" in p.needs]) >= 10
    assert len([p for p in OBJECTIVES.values() if "temperature" in p.parameters]) >= 5
    assert set(OBJECTIVES) >= GROUPED | BY_LABEL | TOP.keys()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@each_case
def test_contract(name, settings, check):
    check(subject(name, settings))


def teacher_gradient(name, settings, detach=True):
    """What reaches the teacher's scores through a recipe of this one objective, the only way it is ever called."""
    student, teacher, batch = data()
    live = Scores(logit=teacher.logit.requires_grad_(), hidden=teacher.hidden.requires_grad_())
    module = nn.Module()
    free = nn.Parameter(student.logit)
    module.forward = lambda ids, dense: Scores(logit=free, hidden=student.hidden)
    recipe = Recipe(
        targets=[choose("targets", "affine", {"scale": 0.5})],
        terms=[Term(objective=Choice(plugin=OBJECTIVES[name], settings=settings), weight=1.0)],
        selection=choose("selection", "uncertain", {}),
        schedule=choose("schedules", "constant", {}),
    )
    with pytest.MonkeyPatch.context() as patch:
        if not detach:
            patch.setattr(Scores, "detach", lambda scores: scores)
        lesson = Lesson(recipe, FACTS, student=module)
        lesson.losses(dataclasses.replace(batch, teacher=live), 0.0)["loss"].backward()
    assert free.grad is not None
    return [value.grad for value in (live.logit, live.hidden)]


@each_case
def test_no_gradient_reaches_the_teacher(name, settings):
    assert [grad for grad in teacher_gradient(name, settings) if grad is not None and grad.any()] == []


def test_a_teacher_that_is_not_detached_would_be_noticed():
    assert teacher_gradient("point.logit_mse", {}, detach=False)[0].any()

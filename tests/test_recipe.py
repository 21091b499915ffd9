"""A recipe names its losses, adds and weighs them by its rules, and without a teacher never looks for one."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from recdistill.distil.recipe import Recipe, Term
from recdistill.plugins import choose
from recdistill.types import Batch, Scores


class Free(nn.Module):
    """A student whose logits are its parameters, a row each."""

    def __init__(self, logit):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, ids, dense):
        return Scores(logit=self.logit)


def recipe(*terms, targets=(), selection="all", schedule=("constant", {}), **settings):
    """recipe(("label.bce", 0.5), ("point.soft_bce", 0.5, {"temperature": 2.0}))."""
    made = [
        Term(objective=choose("objectives", name, more[0] if more else {}), weight=weight)
        for name, weight, *more in terms
    ]
    return Recipe(
        targets=[choose("targets", *target) for target in targets],
        terms=made,
        selection=choose("selection", selection, settings),
        schedule=choose("schedules", *schedule),
    )


def rows(teacher=(2.0, -1.0, 0.5), request=(5, 5, 9), weight=(1.0, 1.0, 1.0)):
    batch = Batch.example(label=[1.0, 0.0, 1.0], request=request, teacher=Scores(logit=torch.tensor(teacher)))
    return replace(batch, weight=torch.tensor(weight))


def gradient(of, batch, logit=(0.3, -0.2, 0.9), progress=0.0):
    student = Free(logit)
    of.losses(student, batch, progress)["loss"].backward()
    return student.logit.grad


STUDENT = (0.3, -0.2, 0.9)
BCE = [math.log1p(math.exp(z)) - y * z for z, y in zip(STUDENT, (1, 0, 1), strict=True)]
MSE = [(z - t) ** 2 / 2 for z, t in zip(STUDENT, (2.0, -1.0, 0.5), strict=True)]


def test_losses_are_named_and_their_weighted_sum_is_the_loss():
    named = recipe(("label.bce", 0.25), ("point.logit_mse", 2.0)).losses(Free(STUDENT), rows(), 0.0)
    assert set(named) == {"loss", "label.bce", "point.logit_mse"}
    assert named["label.bce"].item() == pytest.approx(sum(BCE) / 3)
    assert named["point.logit_mse"].item() == pytest.approx(sum(MSE) / 3)
    assert named["loss"].item() == pytest.approx(0.25 * sum(BCE) / 3 + 2 * sum(MSE) / 3)
    assert named["loss"].requires_grad
    assert not named["label.bce"].requires_grad


def test_rows_count_by_their_weight():
    named = recipe(("label.bce", 1.0)).losses(Free(STUDENT), rows(weight=(3.0, 0.0, 1.0)), 0.0)
    assert named["loss"].item() == pytest.approx((3 * BCE[0] + BCE[2]) / 4)


def test_a_request_counts_as_much_as_its_rows_together():
    """Requests 5 (rows 0 and 1) and 9 (row 2, weight 4): 9 has loss 0, one row alone, and weighs 4 of 6."""
    batch = rows(weight=(1.0, 1.0, 4.0))
    found = recipe(("list.softmax_kl", 1.0)).losses(Free(STUDENT), batch, 0.0)["loss"].item()
    teacher, student = (torch.log_softmax(torch.tensor(z[:2]), 0) for z in ((2.0, -1.0), STUDENT))
    wanted = (teacher.exp() * (teacher - student)).sum().item()
    assert found == pytest.approx((2 * wanted + 4 * 0.0) / 6)


def test_selection_weighs_rows_and_requests():
    batch = rows(teacher=(0.0, 40.0, 0.0))
    named = recipe(("label.bce", 1.0), selection="uncertain", floor=0.5).losses(Free(STUDENT), batch, 0.0)
    assert named["loss"].item() == pytest.approx((BCE[0] + 0.5 * BCE[1] + BCE[2]) / 2.5)
    listwise = recipe(("list.softmax_kl", 1.0), selection="uncertain", floor=0.5).losses(Free(STUDENT), batch, 0.0)
    plain = recipe(("list.softmax_kl", 1.0)).losses(Free(STUDENT), batch, 0.0)
    assert listwise["loss"].item() * 2.5 / 1.5 == pytest.approx(plain["loss"].item() * 3 / 2)


def test_no_weight_at_all_gives_zero_and_no_gradient():
    assert gradient(recipe(("label.bce", 1.0)), rows(weight=(0.0, 0.0, 0.0))).tolist() == [0.0, 0.0, 0.0]


def test_targets_are_applied_in_order_to_the_teacher_only():
    targets = [("affine", {"scale": 2.0, "shift": 1.0}), ("clip", {"limit": 1.5})]
    named = recipe(("point.logit_mse", 1.0), targets=targets).losses(Free(STUDENT), rows(), 0.0)
    moved = (1.5, -1.0, 1.5)  # 2 * (2, -1, 0.5) + 1 = (5, -1, 2), clipped
    assert named["loss"].item() == pytest.approx(sum((z - t) ** 2 / 2 for z, t in zip(STUDENT, moved, strict=True)) / 3)


def test_selection_sees_the_teacher_after_the_targets():
    batch = rows(teacher=(40.0, 40.0, 40.0))
    made = recipe(("label.bce", 1.0), targets=[("affine", {"shift": -40.0})], selection="uncertain", floor=0.0)
    assert made.losses(Free(STUDENT), batch, 0.0)["loss"].item() == pytest.approx(sum(BCE) / 3)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_a_linear_schedule_changes_the_teachers_terms_only(progress):
    made = recipe(("label.bce", 0.5), ("point.logit_mse", 0.5), schedule=("linear", {"start": 1.0, "end": 0.2}))
    named = made.losses(Free(STUDENT), rows(), progress)
    now = 1.0 + (0.2 - 1.0) * progress
    assert named["loss"].item() == pytest.approx(0.5 * sum(BCE) / 3 + now * 0.5 * sum(MSE) / 3)
    assert named["point.logit_mse"].item() == pytest.approx(sum(MSE) / 3)  # as it is, not as it is weighed


def test_no_gradient_reaches_the_stored_scores():
    logit = torch.tensor([2.0, -1.0, 0.5], requires_grad=True)
    batch = replace(rows(), teacher=Scores(logit=logit))
    recipe(("point.logit_mse", 1.0), targets=[("affine", {"scale": 2.0})]).losses(Free(STUDENT), batch, 0.0)[
        "loss"
    ].backward()
    assert logit.grad is None


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_without_weight_on_the_teacher_a_student_is_its_control_to_the_bit(weight):
    """A power of two, so that scaling rounds nothing."""
    made = recipe(("label.bce", weight), ("point.soft_bce", 0.0, {"temperature": 3.0}), ("list.clid", 0.0))
    assert torch.equal(gradient(made, rows()), weight * gradient(made.without_teacher(), rows()))
    assert gradient(made, rows()).all()


def test_a_schedule_at_zero_is_a_teacher_without_weight():
    terms = ("label.bce", 0.5), ("point.soft_bce", 0.5)
    annealed = recipe(*terms, schedule=("linear", {"start": 1.0, "end": 0.0}))
    assert torch.equal(gradient(annealed, rows(), progress=1.0), 0.5 * gradient(recipe(("label.bce", 1.0)), rows()))
    assert not torch.equal(gradient(annealed, rows(), progress=0.9), 0.5 * gradient(recipe(("label.bce", 1.0)), rows()))


@pytest.mark.parametrize("terms", [[("label.bce", 0.2), ("point.soft_bce", 0.8)], [("list.clid", 0.7)]])
def test_the_control_learns_the_label_with_weight_one(terms):
    made = recipe(*terms, targets=[("clip", {})], selection="uncertain", schedule=("linear", {}))
    control = made.without_teacher()
    assert [(term.objective.plugin.name, term.weight) for term in control.terms] == [("label.bce", 1.0)]
    assert "teacher" not in control.needs
    assert list(control.targets) == []


def test_the_control_keeps_the_proportions_of_several_label_terms():
    control = recipe(("label.bce", 0.1), ("label.bce", 0.3), ("list.clid", 1.0)).without_teacher()
    assert [term.weight for term in control.terms] == pytest.approx([0.25, 0.75])


def test_a_control_never_touches_a_teacher():
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(f"the control looked at the teacher's {name}")

    made = recipe(("label.bce", 0.2), ("point.soft_bce", 0.8), selection="uncertain", targets=[("clip", {})])
    control = made.without_teacher()
    without = replace(rows(), teacher=None)
    assert control.losses(Free(STUDENT), without, 0.5)["loss"].item() == pytest.approx(sum(BCE) / 3)
    blocked = replace(rows(), teacher=None)
    term = control.terms[0].objective
    assert term(Scores(logit=torch.tensor(STUDENT)), Untouchable(), blocked).tolist() == pytest.approx(BCE)


def test_needs_and_files_are_those_of_all_plugins():
    made = recipe(("label.bce", 1.0), ("list.clid", 1.0), selection="uncertain", targets=[("clip", {})])
    assert made.needs == {"teacher", "requests"}
    assert {path.stem for path in made.files} == {"bce", "clid", "uncertain", "clip", "constant"}


def test_a_choice_is_checked_when_it_is_made():
    with pytest.raises(KeyError):
        choose("targets", "clamp", {})
    with pytest.raises(ValidationError, match="limit"):
        choose("targets", "clip", {"limit": -1})
    assert choose("targets", "clip", {"limit": "3"}).settings == {"limit": 3.0}

"""A recipe names its losses, adds and weighs them; a term may have targets, rows and a schedule of its own."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from recipe_rows import BCE, MSE, STUDENT, Free, gradient, losses, recipe, rows, section

from recdistill.distil.facts import Facts, Popularity
from recdistill.distil.lesson import Lesson
from recdistill.plugins import choose
from recdistill.types import Scores


def test_losses_are_named_and_their_weighted_sum_is_the_loss():
    named = losses(recipe(("label.bce", 0.25), ("point.logit_mse", 2.0)), Free(STUDENT), rows(), 0.0)
    assert set(named) == {"loss", "label.bce", "point.logit_mse"}
    assert named["label.bce"].item() == pytest.approx(sum(BCE) / 3)
    assert named["point.logit_mse"].item() == pytest.approx(sum(MSE) / 3)
    assert named["loss"].item() == pytest.approx(0.25 * sum(BCE) / 3 + 2 * sum(MSE) / 3)
    assert named["loss"].requires_grad
    assert not named["label.bce"].requires_grad


def test_rows_count_by_their_weight():
    named = losses(recipe(("label.bce", 1.0)), Free(STUDENT), rows(weight=(3.0, 0.0, 1.0)), 0.0)
    assert named["loss"].item() == pytest.approx((3 * BCE[0] + BCE[2]) / 4)


def test_a_request_counts_as_much_as_its_rows_together():
    """Requests 5 (rows 0 and 1) and 9 (row 2, weight 4): 9 has loss 0, one row alone, and weighs 4 of 6."""
    batch = rows(weight=(1.0, 1.0, 4.0))
    found = losses(recipe(("list.softmax_kl", 1.0)), Free(STUDENT), batch, 0.0)["loss"].item()
    teacher, student = (torch.log_softmax(torch.tensor(z[:2]), 0) for z in ((2.0, -1.0), STUDENT))
    wanted = (teacher.exp() * (teacher - student)).sum().item()
    assert found == pytest.approx((2 * wanted + 4 * 0.0) / 6)


def test_selection_weighs_rows_and_requests():
    batch = rows(teacher=(0.0, 40.0, 0.0))
    named = losses(recipe(("label.bce", 1.0), selection="uncertain", floor=0.5), Free(STUDENT), batch, 0.0)
    assert named["loss"].item() == pytest.approx((BCE[0] + 0.5 * BCE[1] + BCE[2]) / 2.5)
    listwise = losses(recipe(("list.softmax_kl", 1.0), selection="uncertain", floor=0.5), Free(STUDENT), batch, 0.0)
    plain = losses(recipe(("list.softmax_kl", 1.0)), Free(STUDENT), batch, 0.0)
    assert listwise["loss"].item() * 2.5 / 1.5 == pytest.approx(plain["loss"].item() * 3 / 2)


def test_no_weight_at_all_gives_zero_and_no_gradient():
    assert gradient(recipe(("label.bce", 1.0)), rows(weight=(0.0, 0.0, 0.0))).tolist() == [0.0, 0.0, 0.0]


def test_targets_are_applied_in_order_to_the_teacher_only():
    targets = [("affine", {"scale": 2.0, "shift": 1.0}), ("clip", {"limit": 1.5})]
    named = losses(recipe(("point.logit_mse", 1.0), targets=targets), Free(STUDENT), rows(), 0.0)
    moved = (1.5, -1.0, 1.5)  # 2 * (2, -1, 0.5) + 1 = (5, -1, 2), clipped
    assert named["loss"].item() == pytest.approx(sum((z - t) ** 2 / 2 for z, t in zip(STUDENT, moved, strict=True)) / 3)


def test_selection_sees_the_teacher_after_the_targets():
    batch = rows(teacher=(40.0, 40.0, 40.0))
    made = recipe(("label.bce", 1.0), targets=[("affine", {"shift": -40.0})], selection="uncertain", floor=0.0)
    assert losses(made, Free(STUDENT), batch, 0.0)["loss"].item() == pytest.approx(sum(BCE) / 3)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_a_linear_schedule_changes_the_teachers_terms_only(progress):
    made = recipe(("label.bce", 0.5), ("point.logit_mse", 0.5), schedule=("linear", {"start": 1.0, "end": 0.2}))
    named = losses(made, Free(STUDENT), rows(), progress)
    now = 1.0 + (0.2 - 1.0) * progress
    assert named["loss"].item() == pytest.approx(0.5 * sum(BCE) / 3 + now * 0.5 * sum(MSE) / 3)
    assert named["point.logit_mse"].item() == pytest.approx(sum(MSE) / 3)  # as it is, not as it is weighed


def test_no_gradient_reaches_the_stored_scores():
    logit = torch.tensor([2.0, -1.0, 0.5], requires_grad=True)
    batch = replace(rows(), teacher=Scores(logit=logit))
    losses(recipe(("point.logit_mse", 1.0), targets=[("affine", {"scale": 2.0})]), Free(STUDENT), batch, 0.0)[
        "loss"
    ].backward()
    assert logit.grad is None


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


def test_metrics_of_an_objective_are_logged_beside_the_losses():
    made = section(terms=[{"use": "point.variance_reduction", "groups": 2}])
    facts = Facts(popularity=Popularity(column=0, counts=torch.tensor([1.0, 1.0])))
    batch = replace(rows(), ids=torch.tensor([[0], [1], [0]]))
    assert set(Lesson(made, facts, student=Free(STUDENT)).losses(batch, 0.0)) == {
        "loss",
        "point.variance_reduction",
        "rho",
        "lambda.0",
        "lambda.1",
    }


# A term's own targets, selection and schedule.


def test_equal_terms_are_told_apart_by_number():
    made = recipe(("label.bce", 1.0), ("point.logit_mse", 0.5), ("point.logit_mse", 0.25))
    assert set(losses(made, Free(STUDENT), rows(), 0.0)) == {
        "loss",
        "label.bce",
        "point.logit_mse",
        "point.logit_mse.2",
    }


def test_a_terms_targets_come_after_the_recipes_and_are_its_own():
    made = section(
        targets=[{"use": "affine", "scale": 2.0}],
        terms=[
            {"use": "point.logit_mse"},
            {"use": "point.logit_mse", "targets": [{"use": "affine", "shift": 1.0}, {"use": "clip", "limit": 1.5}]},
        ],
    )
    named = losses(made, Free(STUDENT), rows(), 0.0)
    first, second = (4.0, -2.0, 1.0), (1.5, -1.0, 1.5)
    for name, goal in (("point.logit_mse", first), ("point.logit_mse.2", second)):
        assert named[name].item() == pytest.approx(
            sum((z - t) ** 2 / 2 for z, t in zip(STUDENT, goal, strict=True)) / 3
        )


def test_a_selection_sees_the_recipes_targets_but_not_the_terms_own():
    """The clicked row is ranked last: all rows are wrong. The term's own target makes them right, after the choice."""
    batch = replace(rows(teacher=(-1.0, 2.0, 0.5), request=(5, 5, 5)), label=torch.tensor([1.0, 0.0, 0.0]))
    wrong = {"use": "teacher_right", "right": False}
    made = section(terms=[{"use": "list.gap_mse", "targets": ["swap_wrong"], "selection": wrong}])
    gap = [z - t for z, t in zip(STUDENT, (2.0, -1.0, 0.5), strict=True)]
    wanted = sum((d - sum(gap) / 3) ** 2 / 2 for d in gap) / 3
    assert losses(made, Free(STUDENT), batch, 0.0)["loss"].item() == pytest.approx(wanted)


def test_a_terms_schedule_is_used_instead_of_the_recipes():
    made = section(
        terms=[{"use": "label.bce"}, {"use": "point.logit_mse", "schedule": {"use": "window", "start": 0.5}}],
        schedule={"use": "linear", "start": 0.0, "end": 0.0},
    )
    early, late = (losses(made, Free(STUDENT), rows(), progress)["loss"].item() for progress in (0.4, 0.5))
    assert early == pytest.approx(sum(BCE) / 3)
    assert late == pytest.approx(sum(BCE) / 3 + sum(MSE) / 3)


def test_a_schedule_gives_settings_by_name_to_functions_and_to_modules():
    cooled = section(
        terms=[{"use": "point.soft_bce", "temperature": 9.0}], schedule={"use": "cooling", "start": 3.0, "end": 1.0}
    )
    warm = section(terms=[{"use": "point.soft_bce", "temperature": 2.0}])
    assert torch.equal(
        losses(cooled, Free(STUDENT), rows(), 0.5)["loss"], losses(warm, Free(STUDENT), rows(), 0.0)["loss"]
    )
    moving = section(terms=[{"use": "point.continuation"}], schedule={"use": "continuation", "steps": 4, "rise": 1.0})
    named = losses(moving, Free(STUDENT), rows(), 0.3)  # phi = 2/4, psi = 0.3
    half = sum((z - t / 2) ** 2 for z, t in zip(STUDENT, (2.0, -1.0, 0.5), strict=True)) / 3
    assert named["point.continuation"].item() == pytest.approx(half)
    assert named["loss"].item() == pytest.approx(0.7 * half)


def test_gap_mse_learns_from_the_selected_rows_of_a_request_only():
    batch = rows(teacher=(-1.0, 2.0, 0.5))
    batch = replace(batch, label=torch.tensor([1.0, 0.0, 0.0]), request=torch.tensor([5, 5, 5]))
    wrong = section(terms=[{"use": "list.gap_mse", "selection": {"use": "teacher_right", "right": False}}])
    gap = [z - t for z, t in zip(STUDENT, (-1.0, 2.0, 0.5), strict=True)]
    mean = sum(gap) / 3
    wanted = sum((d - mean) ** 2 / 2 for d in gap) / 3  # the clicked row is below both others: all three are wrong
    assert losses(wrong, Free(STUDENT), batch, 0.0)["loss"].item() == pytest.approx(wanted)
    batch = replace(batch, teacher=Scores(logit=torch.tensor([1.0, 2.0, 0.5])))
    gap = [z - t for z, t in zip(STUDENT, (1.0, 2.0, 0.5), strict=True)]
    mean = sum(gap) / 3
    wanted = sum((d - mean) ** 2 / 2 for d in gap[:2]) / 2  # row 2 is right
    assert losses(wrong, Free(STUDENT), batch, 0.0)["loss"].item() == pytest.approx(wanted)

"""Without weight on the teacher a student is its control, and a control never looks for a teacher."""

from dataclasses import replace

import pytest
import torch
from recipe_rows import BCE, STUDENT, Free, gradient, losses, recipe, rows, section

from recdistill.distil.stress import Stress
from recdistill.types import Batch, Scores


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
    control = recipe(("label.bce", 0.1), ("label.smoothed_bce", 0.3), ("list.clid", 1.0)).without_teacher()
    assert [term.weight for term in control.terms] == pytest.approx([0.25, 0.75])


def test_a_recipe_without_a_teacher_is_compared_with_plain_labels():
    control = recipe(("label.smoothed_bce", 1.0)).without_teacher()
    assert [(term.objective.plugin.name, term.weight) for term in control.terms] == [("label.bce", 1.0)]


def test_a_control_adds_up_what_the_recipe_learns_from_the_label_in_phases():
    control = section(
        terms=[
            {"use": "label.bce", "weight": 0.2, "schedule": {"use": "window", "until": 0.5}},
            {"use": "label.bce", "weight": 0.6, "schedule": {"use": "window", "start": 0.5}},
            {"use": "point.soft_bce", "weight": 0.8},
        ]
    ).without_teacher()
    (term,) = control.terms
    assert (term.objective.plugin.name, term.weight, term.schedule) == ("label.bce", 1.0, None)


def test_a_control_never_touches_a_teacher():
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(f"the control looked at the teacher's {name}")

    made = recipe(("label.bce", 0.2), ("point.soft_bce", 0.8), selection="uncertain", targets=[("clip", {})])
    control = made.without_teacher()
    without = replace(rows(), teacher=None)
    assert losses(control, Free(STUDENT), without, 0.5)["loss"].item() == pytest.approx(sum(BCE) / 3)
    blocked = replace(rows(), teacher=None)
    term = control.terms[0].objective
    assert term(Scores(logit=torch.tensor(STUDENT)), Untouchable(), blocked).tolist() == pytest.approx(BCE)


def test_the_control_sees_the_batches_of_its_student():
    assert recipe(("label.bce", 1.0), ("list.clid", 1.0)).without_teacher().shuffle == "requests"
    assert recipe(("label.bce", 1.0), ("point.soft_bce", 1.0)).without_teacher().shuffle == "rows"


def test_stress_changes_labels_of_positives_alike_in_student_and_control():
    batch = Batch.example(label=[1.0] * 500 + [0.0] * 500)
    flipped = Stress(flip=0.3)(batch)
    assert 0.2 < 1 - flipped.label[:500].mean() < 0.4
    assert not flipped.label[500:].any()
    kept = Stress(keep=0.1)(batch)
    assert 0.05 < kept.weight[:500].mean() < 0.15
    assert kept.weight[500:].all()
    made = section(terms=[{"use": "point.soft_bce"}], stress={"flip_positives": 0.3})
    assert made.without_teacher().stress == made.stress == Stress(flip=0.3)

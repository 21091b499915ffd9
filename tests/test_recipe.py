"""A recipe names its losses, adds and weighs them by its rules, and without a teacher never looks for one."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from recdistill.config.load import load
from recdistill.config.recipe import RecipeSection
from recdistill.distil.facts import Facts, Popularity, Widths
from recdistill.distil.lesson import Lesson
from recdistill.distil.recipe import Recipe, Term
from recdistill.distil.stress import Stress
from recdistill.plugins import choose
from recdistill.train.students.unlabelled import joined
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


def section(**settings):
    """The recipe that a config describes."""
    return RecipeSection.model_validate(settings).recipe()


def refusal(**settings):
    with pytest.raises(ValidationError) as caught:
        RecipeSection.model_validate(settings)
    return str(caught.value)


def rows(teacher=(2.0, -1.0, 0.5), request=(5, 5, 9), weight=(1.0, 1.0, 1.0)):
    batch = Batch.example(label=[1.0, 0.0, 1.0], request=request, teacher=Scores(logit=torch.tensor(teacher)))
    return replace(batch, weight=torch.tensor(weight))


def losses(of, student, batch, progress):
    """One step of a recipe with a student."""
    return Lesson(of, Facts(), student=student).losses(batch, progress)


def gradient(of, batch, logit=(0.3, -0.2, 0.9), progress=0.0):
    student = Free(logit)
    losses(of, student, batch, progress)["loss"].backward()
    return student.logit.grad


STUDENT = (0.3, -0.2, 0.9)
BCE = [math.log1p(math.exp(z)) - y * z for z, y in zip(STUDENT, (1, 0, 1), strict=True)]
MSE = [(z - t) ** 2 / 2 for z, t in zip(STUDENT, (2.0, -1.0, 0.5), strict=True)]


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


# Where the teacher comes from.


class Inner(nn.Module):
    """A student with an inside: two numbers in, one hidden layer, a logit."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.below = nn.Linear(2, 4)
        self.tower = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        self.head = nn.Linear(3, 1)

    def forward(self, ids, dense):
        hidden = self.tower(self.below(dense))
        return Scores(logit=self.head(hidden).squeeze(1), hidden=hidden)


class Asked:
    """A live teacher that remembers which rows it was asked about."""

    widths = Widths(fields=("a",), field=2, pooled=2, blocks=(3,), hidden=3)

    def __init__(self):
        self.rows = []

    def scores(self, batch):
        self.rows.append(batch.row_id.tolist())
        return Scores(logit=batch.row_id.float(), hidden=torch.ones(len(batch), 3))


def dense_rows(num=4):
    batch = Batch.example(label=[1.0, 0.0] * (num // 2), request=[0] * num)
    return replace(batch, dense=torch.arange(2.0 * num).view(num, 2) / num)


def test_a_live_teacher_scores_only_the_rows_that_a_selection_left():
    made = section(
        teacher="live",
        terms=[
            {"use": "label.bce"},
            {"use": "point.logit_mse", "selection": {"use": "most_uncertain", "share": 0.5}},
        ],
    )
    teacher, student, batch = Asked(), Inner(), dense_rows()
    named = Lesson(made, Facts(), student=student, teacher=teacher).losses(batch, 0.0)
    (asked,) = teacher.rows
    assert len(asked) == 2
    logit = student(None, batch.dense).logit[asked]
    assert named["point.logit_mse"].item() == pytest.approx(((logit - torch.tensor(asked)) ** 2 / 2).mean().item())


def test_a_live_teacher_scores_all_rows_where_lists_are_compared():
    made = section(
        teacher="live",
        terms=[{"use": "list.softmax_kl", "selection": {"use": "most_uncertain", "share": 0.5}}],
    )
    teacher = Asked()
    Lesson(made, Facts(), student=Inner(), teacher=teacher).losses(dense_rows(), 0.0)
    assert teacher.rows == [[0, 1, 2, 3]]


def test_in_a_joint_lesson_each_learns_from_the_other_and_neither_moves_it_by_that():
    made = section(
        teacher="joint",
        terms=[{"use": "point.logit_mse"}],
        partner={"terms": [{"use": "point.logit_mse", "weight": 3.0}]},
    )
    student, partner = Free(STUDENT), Free((2.0, -1.0, 0.5))
    named = Lesson(made, Facts(), student=student, partner=partner).losses(rows(teacher=(9.0, 9.0, 9.0)), 0.0)
    assert named["point.logit_mse"].item() == pytest.approx(sum(MSE) / 3)
    assert named["partner.point.logit_mse"].item() == pytest.approx(sum(MSE) / 3)
    assert named["loss"].item() == pytest.approx(4 * sum(MSE) / 3)
    named["loss"].backward()
    assert torch.allclose(partner.logit.grad, -3 * student.logit.grad)


def test_what_objectives_own_is_trained_and_is_no_part_of_the_student():
    made = section(teacher="live", terms=[{"use": "feature.hint"}])
    facts = Facts(student=Asked.widths, teacher=Asked.widths)
    student = Inner()
    lesson = Lesson(made, facts, student=student, teacher=Asked())
    own = list(lesson.parameters())
    assert own
    assert not {id(p) for p in own} & {id(p) for p in student.parameters()}
    lesson.losses(dense_rows(), 0.0)["loss"].backward()
    assert all(parameter.grad is not None for parameter in own)


# Parts of the student, and what is done to labels.


def test_a_stage_trains_its_part_alone():
    made = section(
        teacher="live",
        terms=[{"use": "label.bce"}, {"use": "feature.stage"}],
        schedule={"use": "stagewise", "head": 0.5},
    )
    widths = Widths(fields=("a",), field=2, pooled=4, blocks=(3,), hidden=3)

    class Blocks(Asked):
        def blocks(self, batch):
            return (torch.ones(len(batch), 3),)

        def pooled(self, batch):
            return torch.ones(len(batch), 1, 2)

    for progress, moving in ((0.1, "below"), (0.3, "tower"), (0.8, "head")):
        student = Inner()
        parts = [list(module.parameters()) for module in (student.below, student.tower, student.head)]
        facts = Facts(student=widths, teacher=Blocks.widths)
        lesson = Lesson(made, facts, student=student, teacher=Blocks(), parts=parts)
        lesson.losses(dense_rows(), progress)["loss"].backward()
        assert {name.split(".")[0] for name, p in student.named_parameters() if p.grad is not None} == {moving}


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


def test_rows_without_a_label_are_learnt_from_by_the_teachers_terms_alone():
    """Row 2 is a candidate: the label's term sees rows 0 and 1, the teacher's all three."""
    batch = replace(rows(), label=torch.tensor([1.0, 0.0, float("nan")]))
    named = losses(section(unlabelled=True, terms=["label.bce", "point.logit_mse"]), Free(STUDENT), batch, 0.0)
    assert named["label.bce"].item() == pytest.approx(sum(BCE[:2]) / 2)
    assert named["point.logit_mse"].item() == pytest.approx(sum(MSE) / 3)
    assert section(unlabelled=True, terms=["point.logit_mse"]).shuffle == "requests"
    for settings in ({"teacher": "self"}, {"targets": ["swap_wrong"]}):
        assert "wanted unlabelled: true with a teacher" in refusal(unlabelled=True, terms=["list.clid"], **settings)


def test_joined_rows_keep_what_both_have():
    one, other = (
        replace(Batch.example(label=[n, n]), teacher=Scores(logit=torch.full((2,), n), hidden=hidden))
        for n, hidden in ((1.0, None), (0.0, torch.ones(2, 3)))
    )
    both = joined(one, other)
    assert both.label.tolist() == both.teacher.logit.tolist() == [1, 1, 0, 0]
    assert both.teacher.hidden is None
    assert joined(one, replace(other, teacher=None)).teacher is None


def test_the_control_sees_the_batches_of_its_student():
    assert recipe(("label.bce", 1.0), ("list.clid", 1.0)).without_teacher().shuffle == "requests"
    assert recipe(("label.bce", 1.0), ("point.soft_bce", 1.0)).without_teacher().shuffle == "rows"


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


# What a config may not ask for.


@pytest.mark.parametrize("target", ["swap_wrong", "smooth_wrong", "keep_true", "keep_top", "item_similarity"])
def test_targets_edited_by_label_or_request_never_feed_a_calibrated_term(target):
    said = refusal(targets=[target], terms=["label.bce", "point.soft_bce"])
    assert f"wanted point.soft_bce to learn calibrated scores, found {target} before it" in said
    assert "use a list term" in said
    assert target in refusal(terms=[{"use": "point.logit_mse", "targets": [target]}])
    assert section(targets=[target], terms=["label.bce", "list.softmax_kl"]).targets


def test_a_recipe_says_all_that_it_lacks_at_once():
    said = refusal(
        terms=[{"use": "feature.gradient", "weight": 0.0}], trains_tables=False, partner={"terms": ["label.bce"]}
    )
    for part in (
        "wanted teacher: live for feature.gradient, found stored",
        "wanted teacher: joint and a partner together",
        "wanted init: teacher_pca beside trains_tables: false",
        "wanted a term with a weight above 0",
    ):
        assert part in said


def test_settings_of_a_named_recipe_can_be_overridden_in_any_order(tmp_path):
    """The sweep's other points, or the earlier run, from the command line."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine.yaml").write_text("previous: nowhere\ntargets: [delta]\nterms: [point.soft_bce]\n")
    (tmp_path / "a.yaml").write_text(
        "name: a\ndata: {source: log, time: t, user: u, label: {column: y}}\nfeatures: {ids: [i]}\n"
    )
    for overrides in (["recipe=mine", "recipe.previous=runs/a"], ["recipe.previous=runs/a", "recipe=mine"]):
        run = load(tmp_path / "a.yaml", overrides)
        assert (run.recipe.previous, run.recipe.terms[0].use) == ("runs/a", "point.soft_bce")


def test_an_earlier_run_must_be_named():
    assert "wanted previous: the folder of an earlier run for delta" in refusal(
        targets=["delta"], terms=["point.soft_bce"]
    )

"""Where a lesson's teacher comes from, who learns from it and which parts: live, trained along, without labels."""

from dataclasses import replace

import pytest
import torch
from recipe_rows import BCE, MSE, STUDENT, Asked, Free, Inner, dense_rows, losses, refusal, rows, section

from recdistill.distil.facts import Facts, Widths
from recdistill.distil.lesson import Lesson
from recdistill.train.students.unlabelled import joined
from recdistill.types import Batch, Scores


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

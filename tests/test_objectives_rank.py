"""What objectives by the teacher's order promise: known numbers, limits of one another, log space, whose rows count."""

import dataclasses
import math

import pytest
import torch
from objective_rows import FACTS, OBJECTIVES, data, subject

from recdistill.distil import lists
from recdistill.types import Batch, Scores

RANKS = [name for name in OBJECTIVES if name.startswith("rank.")]


def rank(name, **given):
    return subject(name, OBJECTIVES[name].settings(given)).loss


def test_there_are_objectives_by_order():
    assert len(RANKS) >= 5


@pytest.mark.parametrize("name", RANKS)
def test_only_the_order_of_the_teacher_enters(name):
    student, teacher, batch = data()
    bent = Scores(logit=teacher.logit.exp() * 3 - 7)
    assert torch.allclose(rank(name)(student, bent, batch), rank(name)(student, teacher, batch))


@pytest.mark.parametrize("name", RANKS)
def test_rows_of_no_weight_are_not_there(name):
    student, teacher, batch = data()
    weight = torch.ones_like(batch.weight)
    weight[[0, 4]] = 0.0
    left = torch.nonzero(weight).squeeze(1)
    part = [Scores(logit=scores.logit[left]) for scores in (student, teacher)]
    columns = {name: value[left] for name, value in vars_of(batch).items()}
    found = rank(name)(student, teacher, dataclasses.replace(batch, weight=weight))
    wanted = rank(name)(*part, Batch(**columns))
    assert torch.allclose(found if "requests" in OBJECTIVES[name].needs else found[left], wanted)


def vars_of(batch):
    found = {field.name: getattr(batch, field.name) for field in dataclasses.fields(Batch)}
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def test_relaxed_ranking_of_the_whole_list_is_plackett_luce_and_of_one_row_is_the_softmax():
    student, teacher, batch = data(request=[0] * 5)
    order = teacher.logit.argsort(descending=True)
    z = student.logit[order]
    terms = [torch.logsumexp(z[k:], 0) - z[k] for k in range(5)]
    assert torch.allclose(rank("rank.relaxed_ranking", share=1.0)(student, teacher, batch)[0], sum(terms) / 5)
    assert torch.allclose(rank("rank.relaxed_ranking", share=0.2)(student, teacher, batch)[0], terms[0])


def test_relaxed_ranking_does_not_leave_log_space():
    """The trap of exp of raw scores: they are cut off at 80, or overflow."""
    scores = torch.tensor([[500.0, -500.0, 400.0]], requires_grad=True)
    mask = torch.ones(1, 3, dtype=torch.bool)
    loss = lists.relaxed_ranking(scores, torch.tensor([[0.0, 2.0, 1.0]]), mask, 0.6)
    assert loss.item() == pytest.approx((1000 + 100) / 2)
    loss.sum().backward()
    assert torch.allclose(scores.grad, torch.tensor([[1.0, -0.5, -0.5]]))


def test_rankdistil_without_push_is_relaxed_ranking():
    values = data()
    assert torch.allclose(
        rank("rank.rankdistil", share=0.4, push=0.0)(*values), rank("rank.relaxed_ranking", share=0.4)(*values)
    )
    assert (rank("rank.rankdistil", push=1.0)(*values) >= rank("rank.relaxed_ranking")(*values)).all()


def test_dual_correction_leaves_a_student_of_the_teachers_order_alone_and_moves_the_others_right():
    _, teacher, batch = data()
    loss = rank("rank.dual_correction", scale=1.0)
    assert not loss(Scores(logit=teacher.logit / 7 + 3), teacher, batch).any()
    logit = (-teacher.logit).requires_grad_()
    loss(Scores(logit=logit), teacher, batch).sum().backward()
    request = batch.request == 4
    best, worst = (
        torch.nonzero(request)[place(teacher.logit[request])].item() for place in (torch.argmax, torch.argmin)
    )
    assert logit.grad[best] < 0 < logit.grad[worst]


def test_ranking_distillation_weighs_by_position_and_when_hybrid_by_what_is_missed():
    batch = Batch.example(label=[0.0] * 4, request=[3] * 4)
    teacher = Scores(logit=torch.tensor([4.0, 3.0, 2.0, 1.0]))
    student = torch.tensor([0.0, 5.0, -1.0, 6.0], requires_grad=True)  # ranks 2, 1, 3, 0
    for hybrid in (False, True):
        rank("rank.ranking_distillation", share=0.75, decay=2.0, scale=0.5, hybrid=hybrid)(
            Scores(logit=student), teacher, batch
        ).sum().backward()
        weight = torch.exp(-torch.arange(3.0) / 2)
        if hybrid:
            weight = weight * torch.tensor([math.tanh(1.0), 0.0, math.tanh(0.5)])
        wanted = -weight / weight.sum() * torch.sigmoid(-student.detach()[:3])
        assert torch.allclose(student.grad, torch.cat([wanted, torch.zeros(1)]), atol=1e-6)
        student.grad = None


def test_the_items_side_is_relaxed_ranking_with_items_for_requests():
    student, teacher, batch = data()
    item = batch.ids[:, FACTS.popularity.column]
    turned = dataclasses.replace(batch, request=item)
    of_item = rank("rank.relaxed_ranking")(student, teacher, turned)
    wanted = of_item[torch.unique(item, return_inverse=True)[1]]
    assert torch.allclose(rank("rank.item_side")(student, teacher, batch), wanted)
    assert (wanted > 0).sum() >= 3


def test_the_closure_holds_what_the_student_wrongly_puts_first():
    """The teacher's top alone would never push it down."""
    batch = Batch.example(label=[0.0] * 4, request=[3] * 4)
    logit = torch.tensor([0.0, 0.0, 0.0, 5.0], requires_grad=True)
    teacher = Scores(logit=torch.tensor([3.0, 2.0, 1.0, -9.0]))
    rank("list.closure", share=0.25, chance=0.0)(Scores(logit=logit), teacher, batch).sum().backward()
    assert logit.grad[3] > 0 > logit.grad[0]
    assert logit.grad[1:3].tolist() == [0.0, 0.0]  # in neither top, and not drawn

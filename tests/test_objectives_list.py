"""What single objectives over lists and pairs promise: limits of one another, what they do not see, known numbers."""

import dataclasses

import pytest
import torch
from objective_rows import OBJECTIVES, data, subject, take

from recdistill.types import Batch, Scores


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n.startswith("list.")])
def test_a_listwise_objective_is_zero_at_the_teacher_and_above_elsewhere(name):
    student, teacher, batch = data()
    it = subject(name, OBJECTIVES[name].settings({}))
    assert torch.allclose(it.loss(teacher, teacher, batch), torch.zeros(4, dtype=torch.float64), atol=1e-12)
    assert (it.loss(student, teacher, batch) >= 0).all()


def test_softmax_kl_does_not_know_the_level_and_clid_does():
    student, teacher, batch = data()
    level = torch.where(batch.request == 1, 3.0, -2.0)
    shifted = Scores(logit=student.logit + level)
    for name, same in (("list.softmax_kl", True), ("list.clid", False)):
        it = subject(name, OBJECTIVES[name].settings({}))
        assert torch.allclose(it.loss(shifted, teacher, batch), it.loss(student, teacher, batch)) == same, name


@pytest.mark.parametrize("name", ["list.softmax_kl", "list.clid"])
def test_a_list_of_copies_costs_no_more_than_the_list(name):
    """The trap of listwise losses that grow with the length of the list."""
    student, teacher, batch = data(request=[0, 0, 0])
    doubled = take(torch.tensor([0, 1, 2, 0, 1, 2]), student, teacher, batch)
    it = subject(name, OBJECTIVES[name].settings({}))
    assert torch.allclose(it.loss(*doubled), it.loss(student, teacher, batch))


def test_softmax_kl_tends_to_gap_mse_as_the_temperature_grows():
    student, teacher, batch = data()
    soft = subject("list.softmax_kl", {"temperature": 1e3}).loss(student, teacher, batch)
    assert torch.allclose(soft, subject("list.gap_mse", {}).loss(student, teacher, batch), rtol=1e-2)


def test_decoupled_with_a_single_click_is_the_whole_divergence_when_weighed_by_the_teachers_mass():
    """KL(P_T || P_S) = KL(b_T || b_S) + (mass that the teacher gives the rest) KL(Q_T || Q_S)."""
    student, teacher, batch = data(request=[0] * 8)
    batch = dataclasses.replace(batch, label=torch.tensor([0.0, 0, 1, 0, 0, 0, 0, 0], dtype=torch.float64))
    rest = 1 - torch.softmax(teacher.logit, 0)[2].item()
    parts = subject("list.decoupled", {"clicked": 1.0, "rest": rest, "temperature": 1.0})
    whole = subject("list.softmax_kl", {"temperature": 1.0})
    assert torch.allclose(parts.loss(student, teacher, batch), whole.loss(student, teacher, batch))


def test_unkd_sees_the_order_alone():
    student, teacher, batch = data()
    it = subject("pair.unkd", OBJECTIVES["pair.unkd"].settings({}))
    bent = Scores(logit=teacher.logit.exp() * 3 - 7)
    assert torch.allclose(it.loss(student, bent, batch), it.loss(student, teacher, batch))


def test_a_harder_request_gets_a_sharper_target():
    """A lower temperature on the request that student and teacher see differently."""
    batch = Batch.example(label=[1.0, 0.0, 1.0, 0.0], request=[0, 0, 1, 1])
    student = Scores(logit=torch.tensor([2.0, 0.0, 2.0, 0.0]))
    teacher = Scores(logit=torch.tensor([2.0, 0.0, 0.0, 2.0]))
    sharper = subject("list.softmax_kl", {"temperature": 1.5}).loss(student, teacher, batch)  # w = 0 and 1
    settings = OBJECTIVES["list.dynamic_temperature"].settings({"temperature": 2.0, "beta": 1.0})
    moving = subject("list.dynamic_temperature", settings).loss(student, teacher, batch)
    assert torch.allclose(moving, sharper)

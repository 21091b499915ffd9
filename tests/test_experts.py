"""Experts, whose vectors they map, and a teacher that gets harder: what is learnt in training alone, and in pairs."""

import dataclasses

import pytest
import torch

from recdistill.distil.entities import entities, num_sides
from recdistill.distil.experts import Experts
from recdistill.distil.facts import Facts, Widths
from recdistill.distil.inside import Inside
from recdistill.distil.lesson import made
from recdistill.plugins import choose
from recdistill.types import Batch, Scores

PAIR = [Widths(fields=("user", "item"), field=n, pooled=2 * n, blocks=(), hidden=2 * n) for n in (2, 3)]
PAIRS = Facts(student=PAIR[0], teacher=PAIR[1])
KEY = torch.arange(40)


def experts(number=3):
    torch.manual_seed(0)
    return Experts(2, 3, number)


def vectors(num, width, seed=0):
    return torch.randn((num, width), generator=torch.Generator().manual_seed(seed))


def test_shares_add_up_are_noisy_in_training_alone_and_are_taken_up_where_they_were():
    one, theirs = experts(), vectors(40, 3)
    first, second = one.shares(theirs, KEY, 1.0), one.shares(theirs, KEY, 1.0)
    assert torch.allclose(first.sum(dim=1), torch.ones(40))
    assert not torch.equal(first, second)
    again = experts()
    again.shares(theirs, KEY, 1.0)
    assert torch.equal(again.shares(theirs, KEY, 1.0), second)
    one.eval()
    assert torch.equal(one.shares(theirs, KEY, 1.0), one.shares(theirs, KEY, 1.0))


def test_a_low_temperature_leaves_one_expert():
    assert (experts().shares(vectors(40, 3), KEY, 0.001).max(dim=1).values > 0.99).float().mean() > 0.9


def test_an_expert_is_drawn_as_often_as_its_share():
    """Gumbel noise makes of argmax a draw: over many calls, expert m is picked with probability a_m."""
    one, theirs = experts(), vectors(1, 3).expand(4000, 3)
    wanted = torch.softmax(one.selector(theirs[:1]), dim=1)[0]
    picked = one.shares(theirs, torch.arange(4000), 0.01).argmax(dim=1)
    assert torch.allclose(torch.bincount(picked, minlength=3) / 4000, wanted, atol=0.03)


def test_experts_of_few_directions_are_held_against_the_whole_vector():
    torch.manual_seed(0)
    one, own, theirs = Experts(2, 6, 3, 2), vectors(40, 2), vectors(40, 6, 1) * torch.tensor([3.0, 2, 1, 1, 1, 1])
    one.loss(own, theirs, KEY, 1.0)
    basis = one.basis.clone()
    assert torch.allclose(basis.T @ basis, torch.eye(2), atol=1e-6)
    held = (theirs @ basis).square().sum() / theirs.square().sum()
    assert held > 0.6, "the two long directions are found"
    again = Experts(2, 6, 3, 2)
    again.load_state_dict(one.state_dict())
    share = again.shares(theirs @ basis, KEY, 1.0)
    wanted = (again(own, share) @ basis.T - theirs).square().sum(dim=1) / theirs.square().sum(dim=1).mean()
    assert torch.allclose(one.loss(own, theirs, KEY, 1.0), wanted, atol=1e-5)
    one.loss(own, vectors(40, 6, 2), KEY, 1.0)
    assert torch.equal(one.basis, basis), "of the first batch alone"


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("directions", [None, 2])
def test_experts_that_say_nothing_leave_all_whatever_the_scale_of_a_teacher(scale, directions):
    one = Experts(2, 3, 3, directions)
    torch.nn.init.zeros_(one.out)
    torch.nn.init.zeros_(one.out_bias)
    left = one.loss(vectors(40, 2), scale * vectors(40, 3, 1), KEY, 1.0).mean().item()
    assert left == pytest.approx(1.0, rel=1e-5)


def test_as_many_directions_as_there_are_change_nothing():
    torch.manual_seed(0)
    few = Experts(2, 3, 3, 3)
    torch.manual_seed(0)
    whole = Experts(2, 3, 3)
    own, theirs = vectors(40, 2), vectors(40, 3, 1)
    assert torch.equal(few.loss(own, theirs, KEY, 1.0), whole.loss(own, theirs, KEY, 1.0))


def pairs(users, items):
    batch = Batch.example(label=[0.0] * len(users), request=users)
    batch = dataclasses.replace(batch, ids=torch.stack([torch.tensor(users), torch.tensor(items)], dim=1))
    own, theirs = (torch.cat([vectors(9, n)[users], vectors(9, n, 1)[items]], dim=1) for n in (2, 3))
    return Scores(logit=own[:, 0], hidden=own), Scores(logit=own[:, 0], hidden=theirs), batch


def test_in_pairs_users_and_items_are_compared_each_once():
    student, teacher, batch = pairs([4, 4, 4, 6], [2, 3, 5, 2])
    assert num_sides(PAIRS) == 2
    found = entities(student, teacher, batch, 2)
    assert found.own.shape == (2 + 3, 2)
    rebuilt = torch.cat([found.own[found.places[:, 0]], found.own[found.places[:, 1]]], dim=1)
    assert torch.equal(rebuilt, student.hidden)


@pytest.mark.parametrize(
    "name", ["feature.distillation_experts", "relation.topology", "relation.hierarchical_topology"]
)
def test_in_pairs_a_row_that_stands_twice_changes_no_other_rows_loss(name):
    """A user's vector repeats in all its rows: it is one vector of the batch all the same."""
    loss = made(choose("objectives", name, {}), PAIRS)
    loss.eval()
    once, twice = pairs([4, 4, 6, 6], [2, 3, 2, 5]), pairs([4, 4, 6, 6, 6], [2, 3, 2, 5, 5])
    assert torch.allclose(loss(*twice)[:4], loss(*once), atol=1e-6)
    assert (loss(*once) > 0).all()


def test_a_request_walks_along_the_members_and_never_past_the_last():
    walk = made(choose("targets", "trajectory", {}), Facts(row_id=torch.arange(4)))
    batch = Batch.example(label=[0.0] * 4, request=[0, 0, 1, 1])
    members = torch.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, 2.0], [5.0, 6.0, 7.0], [4.0, 5.0, 6.0]])
    teacher = Scores(logit=torch.zeros(4), members=members)
    student = Scores(logit=torch.tensor([1.0, 0.0, 1.0, 0.0]))
    seen = [walk(teacher, batch, student).logit for _ in range(6)]
    assert torch.equal(seen[0][:2], members[:2, 0])
    assert [logit[2:].tolist() for logit in seen[:3]] == [[6, 5], [7, 6], [7, 6]]  # it has the order of every next one
    assert all((members == logit.unsqueeze(1)).any(dim=1).all() for logit in seen)
    other = made(choose("targets", "trajectory", {}), Facts(row_id=torch.arange(4)))
    other.load_state_dict(walk.state_dict())
    assert torch.equal(other(teacher, batch, student).logit, walk(teacher, batch, student).logit)


def test_a_row_that_the_train_window_lacks_follows_the_first_member():
    walk = made(choose("targets", "trajectory", {}), Facts(row_id=torch.arange(2)))
    batch = dataclasses.replace(Batch.example(label=[0.0, 0.0], request=[7, 7]), row_id=torch.tensor([50, 51]))
    teacher = Scores(logit=torch.zeros(2), members=torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
    for _ in range(3):
        assert walk(teacher, batch, Scores(logit=torch.tensor([1.0, 0.0]))).logit.tolist() == [1.0, 2.0]


def test_each_peer_is_drawn_to_the_better_one_and_moves_no_other():
    """Label 1, the student says 1/2, its peer more: the student is drawn up by its own terms alone."""
    widths = Widths(fields=(), field=0, pooled=1, blocks=(), hidden=1)
    loss = made(choose("objectives", "point.peers", {"number": 1}), Facts(student=widths))
    with torch.no_grad():
        loss.towers[0][0].weight.fill_(0.0)
        loss.towers[0][0].bias.fill_(2.0)
    inside = Inside(pooled=torch.ones(1, 1), blocks=(), from_pooled=None, teacher=None)
    logit = torch.zeros(1, requires_grad=True)
    loss(Scores(logit=logit), None, Batch.example(label=[1.0]), inside).sum().backward()
    p, q = 0.5, torch.sigmoid(torch.tensor(2.0)).item()
    follow = torch.softmax(-torch.tensor([p, q]), 0)[0].item()
    slope = (2 * follow * (p - (p + q) / 2) + (p - q)) * p * (1 - p)  # its own terms alone: the others see it cut
    assert logit.grad.item() == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.3, 0.02, 1e-10])
def test_experts_that_are_hardly_heard_may_be_left_out(temperature):
    torch.manual_seed(0)
    experts = Experts(3, 5, 8).double()
    own, theirs = torch.randn(64, 3, dtype=torch.float64, requires_grad=True), torch.randn(64, 5, dtype=torch.float64)
    share = experts.shares(theirs, torch.arange(64), temperature)
    gradients = []
    for mapped in (experts(own, share), experts._all(own, share)):
        found = torch.autograd.grad(mapped.square().sum(), [own, experts.into, experts.out_bias], retain_graph=True)
        gradients.append([mapped.detach(), *found])
    assert all(torch.allclose(few, every, rtol=1e-5, atol=1e-6) for few, every in zip(*gradients, strict=True))

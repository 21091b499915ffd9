"""The checks of an objective's contract: each takes a subject and raises AssertionError where it is broken."""

import dataclasses
import math

import torch
from objective_rows import BY_LABEL, FACTS, GROUPED, OBJECTIVES, REQUEST, TOP, data, take
from torch import nn

from recdistill.types import Scores

ORDER_ALONE = {"pair.unkd", *TOP} - {"list.closure"}  # a wider gap in the teacher's order is always better


def check_shape(it):
    """[N], or [G] where it needs requests; never reduced."""
    student, teacher, batch = data()
    wanted = len(set(REQUEST)) if "requests" in it.needs else len(REQUEST)
    assert it.loss(student, teacher, batch).shape == (wanted,)


def check_finite(it):
    """Loss and gradient, float32, on random logits and on saturated ones that agree and that differ."""
    num = len(REQUEST)
    extreme = torch.tensor([40.0, -40.0] * (num // 2))
    _, random, batch = data()
    batch = dataclasses.replace(batch, label=batch.label.float())
    for one in (random.logit.float(), extreme, -extreme, torch.full((num,), 40.0), torch.full((num,), -40.0)):
        for other in (random.logit.float(), extreme, torch.full((num,), -40.0)):
            logit = one.clone().requires_grad_()
            hidden = random.hidden.float()
            loss = it.loss(Scores(logit=logit, hidden=hidden), Scores(logit=other, hidden=hidden), batch)
            assert torch.isfinite(loss).all(), (one, other, loss)
            loss.sum().backward()
            assert torch.isfinite(logit.grad).all(), (one, other, logit.grad)


def check_permutation(it):
    """The order of the rows moves row losses along and leaves request losses where their ids put them."""
    values = data()
    order = torch.randperm(len(REQUEST), generator=torch.Generator().manual_seed(1))
    plain, moved = it.loss(*values), it.loss(*take(order, *values))
    assert torch.allclose(moved, plain if "requests" in it.needs else plain[order])


def check_independence(it):
    """What is not in the same request does not matter: every request alone gives what it gives among others."""
    if "batch" in it.needs:
        return
    values = data()
    request = values[2].request
    together = it.loss(*values)
    for line, key in enumerate(request.unique().tolist()):
        mine = torch.nonzero(request == key).squeeze(1)
        wanted = together[line : line + 1] if "requests" in it.needs else together[mine]
        assert torch.allclose(it.loss(*take(mine, *values)), wanted), key


def check_gradient(it):
    """Autograd equals finite differences in float64; with a temperature of its own, through which none runs, held."""
    student, teacher, batch = data()
    logit = student.logit.clone().requires_grad_()
    held = {"beta": 0.0} if "beta" in it.settings else {}
    assert torch.autograd.gradcheck(
        lambda logit: it.loss(Scores(logit=logit, hidden=student.hidden), teacher, batch, **held), (logit,)
    )


def check_not_negative(it):
    """0 is the least that a loss can be."""
    for seed in range(3):
        assert (it.loss(*data(seed=seed)) >= -1e-9).all()


def check_single(it):
    """One row has nothing to be compared with."""
    if "requests" in it.needs:
        student, teacher, batch = data()
        loss = it.loss(student, teacher, batch)
        alone = [sorted(set(REQUEST)).index(key) for key in set(REQUEST) if REQUEST.count(key) == 1]
        assert len(alone) == 2
        assert loss[alone].tolist() == [0.0, 0.0]
        assert (loss != 0).sum() == len(loss) - 2


def check_order(it):
    """Descent from the opposite order by the loss alone ends in the teacher's; in that of the labels without one."""
    _, _, batch = data(request=[0] * 5 + [1] * 4)
    goal = torch.tensor([0.5, -1.0, 2.0, -2.0, 1.2, 0.0, 1.0, -1.0, 0.4], dtype=torch.float64)
    if "teacher" not in it.needs:
        goal = batch.label
    same = comparable(it.name, batch, goal)
    logit = nn.Parameter(-0.1 * goal)
    hidden = torch.zeros((len(goal), 3), dtype=torch.float64)
    optimiser = torch.optim.Adam([logit], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        it.loss(Scores(logit=logit, hidden=hidden), Scores(logit=goal, hidden=hidden), batch).sum().backward()
        optimiser.step()
    above = (goal[:, None] > goal[None, :]) & same
    assert above.sum() >= 5
    assert (logit.detach()[:, None] > logit.detach()[None, :])[above].all(), logit


def comparable(name, batch, goal):
    """[N, N] pairs of rows that an objective tells apart by the teacher."""
    if name in TOP:
        return told_apart_in_the_top(name, batch, goal)
    key = batch.request
    if name in GROUPED:
        key = key * 100 + FACTS.popularity.groups(4)[batch.ids[:, 0]]
    elif name == "point.variance_reduction":
        key = key * 100 + batch.label.long()
    same = key[:, None] == key[None, :]
    if name == "list.decoupled":
        clicked = batch.label > 0.5
        same &= ~(clicked[:, None] & clicked[None, :])
    return same


def told_apart_in_the_top(name, batch, goal):
    """[N, N] pairs of a list of which one is in the teacher's top, and the other too or, if not told apart, is not."""
    key = batch.ids[:, 0] if name == "rank.item_side" else batch.request
    same = key[:, None] == key[None, :]
    place = ((goal[None, :] > goal[:, None]) & same).sum(dim=1)
    share = OBJECTIVES[name].settings({})["share"]
    top = place < torch.ceil(same.sum(dim=1) * share)
    return same & top[:, None] & (TOP[name] | ~top[None, :])


def check_groups(it):
    """Whatever is added to all teacher scores of one popularity group, the student is taught the same."""
    if it.name in GROUPED:
        student, teacher, batch = data()
        for level in (9.0, -9.0):
            shift = FACTS.popularity.groups(4)[batch.ids[:, 0]] * level
            shifted = Scores(logit=teacher.logit + shift, hidden=teacher.hidden)
            assert torch.allclose(it.loss(student, shifted, batch), it.loss(student, teacher, batch))


def check_temperature(it):
    """The gradient keeps its size as the temperature grows: it has a limit, which is not 0."""
    if it.tempered:
        student, teacher, batch = data()
        sizes = []
        for temperature in (200.0, 400.0):
            logit = student.logit.clone().requires_grad_()
            scores = Scores(logit=logit, hidden=student.hidden)
            it.loss(scores, teacher, batch, temperature=temperature).sum().backward()
            sizes.append(float(logit.grad.norm()))
        assert sizes[0] > 1e-3
        assert math.isclose(sizes[0], sizes[1], rel_tol=0.02), sizes


def check_best_is_the_teacher(it):
    """A student equal to its teacher cannot be bettered: no gradient is left; but of those that only know an order."""
    if "teacher" in it.needs and it.name not in BY_LABEL | ORDER_ALONE:
        _, teacher, batch = data()
        logit = teacher.logit.clone().requires_grad_()
        it.loss(Scores(logit=logit, hidden=teacher.hidden), teacher, batch).sum().backward()
        assert torch.allclose(logit.grad, torch.zeros_like(logit), atol=1e-12)


CHECKS = [
    check_shape,
    check_finite,
    check_permutation,
    check_independence,
    check_gradient,
    check_not_negative,
    check_single,
    check_order,
    check_temperature,
    check_best_is_the_teacher,
    check_groups,
]

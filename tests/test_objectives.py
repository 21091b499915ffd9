"""The contract of an objective, over every one that is found; and that each check catches what it is there for."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from recdistill.distil.facts import Facts, Popularity
from recdistill.distil.lesson import Lesson, made
from recdistill.distil.recipe import Recipe, Term
from recdistill.plugins import Choice, choose, load_all
from recdistill.types import Batch, Scores

INSIDE = {"hidden", "blocks", "pooled", "live_teacher"}  # tests/test_objectives_inside.py
OBJECTIVES = {name: plugin for name, plugin in load_all("objectives").items() if not plugin.needs & INSIDE}
REQUEST = [4, 1, 4, 9, 1, 4, 7, 1]  # three rows each in 1 and 4, one each in 7 and 9
ITEMS = [0, 0, 1, 2, 1, 3, 4, 2, 5]  # items 0, 1 and 2 are one popularity group, every other one is its own
FACTS = Facts(base_rate=-0.4, popularity=Popularity(column=0, counts=torch.tensor([1.0, 1, 1, 9, 9, 9])))
BY_LABEL = {"label.bce", "label.smoothed_bce", "point.variance_reduction"}  # the label moves their optimum
GROUPED = {"pair.unkd", "list.popularity_kl"}  # popularity groups are never compared
CASES = [
    pytest.param(name, settings, id=f"{name}-{'-'.join(map(str, settings.values()))}")
    for name, plugin in OBJECTIVES.items()
    for settings in [plugin.settings({})]
    + ([plugin.settings({"temperature": 2.5})] if "temperature" in plugin.parameters else [])
]
each_case = pytest.mark.parametrize(("name", "settings"), CASES)


def subject(name, settings, wrap=lambda function: function):
    """An objective as the checks take it: (student, teacher, batch) -> loss, with its needs."""
    plugin = OBJECTIVES[name]
    ready = made(Choice(plugin=plugin, settings=settings), FACTS)
    if isinstance(ready, nn.Module):
        ready = ready.eval()
    function = wrap(ready)
    return SimpleNamespace(
        name=name,
        needs=plugin.needs,
        settings=settings,
        tempered="temperature" in plugin.parameters,
        function=function,
        loss=function,
    )


def data(request=REQUEST, seed=0):
    """(student, teacher, batch) of random float64 scores, hidden vectors too, labels of both classes."""
    generator = torch.Generator().manual_seed(seed)

    def scores():
        shape = (len(request),)
        logit = torch.randn(shape, generator=generator, dtype=torch.float64) * 2
        return Scores(logit=logit, hidden=torch.randn((*shape, 3), generator=generator, dtype=torch.float64))

    label = (torch.arange(len(request)) % 2).double()
    ids = torch.tensor(ITEMS[: len(request)]).unsqueeze(1)
    batch = dataclasses.replace(Batch.example(label=label.tolist(), request=request), label=label, ids=ids)
    return scores(), scores(), batch


def columns(batch):
    """The tensors of a batch by name."""
    found = {field.name: getattr(batch, field.name) for field in dataclasses.fields(Batch)}
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def take(index, student, teacher, batch):
    """These rows alone."""
    rows = {name: value[index] for name, value in columns(batch).items()}
    both = [Scores(logit=s.logit[index], hidden=s.hidden[index]) for s in (student, teacher)]
    return *both, Batch(**rows)


# The checks: each takes a subject and raises AssertionError where it breaks the contract.


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
    """Descent on free logits by the loss alone ends in the teacher's order inside requests; by labels without one."""
    _, _, batch = data(request=[0] * 5 + [1] * 4)
    goal = torch.tensor([0.5, -1.0, 2.0, -2.0, 1.2, 0.0, 1.0, -1.0, 0.4], dtype=torch.float64)
    if "teacher" not in it.needs:
        goal = batch.label
    same = batch.request[:, None] == batch.request[None, :]
    same &= comparable(it.name, batch)
    logit = nn.Parameter(torch.zeros_like(goal))
    hidden = torch.zeros((len(goal), 3), dtype=torch.float64)
    optimiser = torch.optim.Adam([logit], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        it.loss(Scores(logit=logit, hidden=hidden), Scores(logit=goal, hidden=hidden), batch).sum().backward()
        optimiser.step()
    above = (goal[:, None] > goal[None, :]) & same
    assert above.sum() >= 5
    assert (logit.detach()[:, None] > logit.detach()[None, :])[above].all(), logit


def comparable(name, batch):
    """[N, N] pairs of rows that an objective tells apart by the teacher."""
    if name in GROUPED:
        group = FACTS.popularity.groups(4)[batch.ids[:, 0]]
        return group[:, None] == group[None, :]
    if name == "list.decoupled":
        clicked = batch.label > 0.5
        return ~(clicked[:, None] & clicked[None, :])
    if name == "point.variance_reduction":
        return batch.label[:, None] == batch.label[None, :]
    return torch.ones((len(batch), len(batch)), dtype=torch.bool)


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
    """A student equal to its teacher cannot be bettered: no gradient is left."""
    if "teacher" in it.needs and it.name not in BY_LABEL | {"pair.unkd"}:
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


def test_there_are_objectives_of_every_sort():
    assert len(OBJECTIVES) >= 12
    assert len({name.split(".")[0] for name in OBJECTIVES}) >= 4
    assert len([p for p in OBJECTIVES.values() if "requests" in p.needs]) >= 6
    assert len([p for p in OBJECTIVES.values() if "teacher" in p.needs]) >= 10
    assert len([p for p in OBJECTIVES.values() if "temperature" in p.parameters]) >= 5
    assert set(OBJECTIVES) >= GROUPED | BY_LABEL


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


# Mutations: what the checks are there for.


def wrong_sign(function):
    return lambda student, teacher, batch, **settings: -function(student, teacher, batch, **settings)


def no_squared_temperature(function):
    def mutant(student, teacher, batch, **settings):
        return function(student, teacher, batch, **settings) / settings.get("temperature", 1.0) ** 2

    return mutant


def groups_ignored(function):
    """All rows count as equally popular."""

    def mutant(student, teacher, batch, **settings):
        return function(student, teacher, dataclasses.replace(batch, ids=torch.zeros_like(batch.ids)), **settings)

    return mutant


def teacher_forgotten(function):
    def mutant(student, teacher, batch, **settings):
        zeros = Scores(logit=torch.zeros_like(teacher.logit), hidden=teacher.hidden)
        return function(student, zeros, batch, **settings)

    return mutant


def one_big_request(function):
    """Requests are ignored: all rows are ranked together."""

    def mutant(student, teacher, batch, **settings):
        merged = dataclasses.replace(batch, request=torch.zeros_like(batch.request))
        return function(student, teacher, merged, **settings)

    return mutant


def unmasked_padding(function):
    """The mask of the padded view is ignored: short requests get phantom rows of logit 0."""

    def mutant(student, teacher, batch, **settings):
        keys, sizes = batch.request.unique(return_counts=True)
        phantom = torch.repeat_interleave(keys, sizes.max() - sizes)
        num = len(phantom)

        def longer(values):
            return torch.cat([values, values.new_zeros((num, *values.shape[1:]))])

        rows = {name: longer(value) for name, value in columns(batch).items()}
        rows["request"] = torch.cat([batch.request, phantom])
        both = [Scores(logit=longer(s.logit), hidden=longer(s.hidden)) for s in (student, teacher)]
        return function(*both, Batch(**rows), **settings)

    return mutant


def reduced(function):
    return lambda student, teacher, batch, **settings: function(student, teacher, batch, **settings).mean()


def half_detached(function):
    """Half of the gradient is cut: the value is right, the gradient is not."""

    def mutant(student, teacher, batch, **settings):
        half = Scores(logit=(student.logit + student.logit.detach()) / 2, hidden=student.hidden)
        return function(half, teacher, batch, **settings)

    return mutant


def positions_matter(function):
    def mutant(student, teacher, batch, **settings):
        loss = function(student, teacher, batch, **settings)
        shifted = Scores(logit=student.logit + torch.arange(len(batch)), hidden=student.hidden)
        return loss + function(shifted, teacher, batch, **settings)

    return mutant


def exp_of_raw_scores(function):
    """exp without log-sum-exp, as in some listwise losses: exp(3 * 40) overflows in float32."""

    def mutant(student, teacher, batch, **settings):
        return function(student, teacher, batch, **settings) * (student.logit * 3).exp().mean()

    return mutant


def mutants():
    """(objective, mutation, the check that must catch it), for every objective that a mutation can touch."""
    for name, plugin in OBJECTIVES.items():
        yield name, wrong_sign, check_not_negative if name in BY_LABEL else check_order
        yield name, reduced, check_shape
        yield name, half_detached, check_gradient
        yield name, positions_matter, check_permutation
        yield name, exp_of_raw_scores, check_finite
        if "teacher" in plugin.needs:
            yield name, teacher_forgotten, check_order
        if "temperature" in plugin.parameters:
            yield name, no_squared_temperature, check_temperature
        if name in GROUPED:
            yield name, groups_ignored, check_groups
        if "requests" in plugin.needs:
            yield name, one_big_request, check_shape
            if "batch" not in plugin.needs:
                yield name, unmasked_padding, check_independence
            yield name, unmasked_padding, check_single


MUTANTS = [pytest.param(*m, id=f"{m[0]}-{m[1].__name__}-{m[2].__name__}") for m in mutants()]


@pytest.mark.parametrize(("name", "mutation", "check"), MUTANTS)
def test_the_contract_catches(name, mutation, check):
    with pytest.raises((AssertionError, RuntimeError)):
        check(subject(name, OBJECTIVES[name].settings({}), mutation))


# What single objectives promise.


def test_soft_bce_at_temperature_two_is_the_formula():
    z, t = 0.7, -1.3
    p = 1 / (1 + math.exp(-t / 2))
    q = 1 / (1 + math.exp(-z / 2))
    wanted = 4 * -(p * math.log(q) + (1 - p) * math.log(1 - q))
    student, teacher = (Scores(logit=torch.tensor([v], dtype=torch.float64)) for v in (z, t))
    loss = subject("point.soft_bce", {"temperature": 2.0}).loss(student, teacher, Batch.example(label=[1.0]))
    assert loss.item() == pytest.approx(wanted, rel=1e-12)


def test_soft_bce_tends_to_a_quarter_of_logit_mse_as_the_temperature_grows():
    student, teacher, batch = data()
    soft = subject("point.soft_bce", {"temperature": 1e3})
    excess = soft.loss(student, teacher, batch) - soft.loss(teacher, teacher, batch)
    quarter = subject("point.logit_mse", {}).loss(student, teacher, batch) / 4
    assert torch.allclose(excess, quarter, rtol=1e-3)


def test_bce_is_soft_bce_of_a_teacher_that_knows_the_label():
    student, _, batch = data()
    certain = Scores(logit=(batch.label * 2 - 1) * 1e3)
    wanted = subject("label.bce", {}).loss(student, None, batch)
    assert torch.allclose(subject("point.soft_bce", {"temperature": 1.0}).loss(student, certain, batch), wanted)


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


def test_variance_reduction_has_the_gradient_of_the_control_variate():
    """(p_s - y) - lam (p_t - y), with lam as it stands before any row was seen."""
    student, teacher, batch = data()
    logit = student.logit.clone().requires_grad_()
    settings = OBJECTIVES["point.variance_reduction"].settings({"start": 0.3})
    it = subject("point.variance_reduction", settings)
    it.loss(Scores(logit=logit), teacher, batch).sum().backward()
    p, t = torch.sigmoid(student.logit), torch.sigmoid(teacher.logit)
    assert torch.allclose(logit.grad, (p - batch.label) - 0.3 * (t - batch.label), atol=1e-6)


def test_variance_reduction_finds_the_regression_of_the_residuals():
    """A teacher whose residual explains half of the student's: lam tends to 1/2, rho to the correlation."""
    generator = torch.Generator().manual_seed(0)
    module = made(
        Choice(
            plugin=OBJECTIVES["point.variance_reduction"],
            settings=OBJECTIVES["point.variance_reduction"].settings({"groups": 1, "held_out": 0.5, "memory": 1e9}),
        ),
        FACTS,
    )
    seen = []
    for step in range(40):
        label = (torch.rand(500, generator=generator) < 0.4).float()
        student, teacher = (torch.randn(500, generator=generator) for _ in range(2))
        batch = dataclasses.replace(
            Batch.example(label=label.tolist()),
            ids=torch.zeros((500, 1), dtype=torch.int64),
            row_id=torch.arange(500) + 500 * step,
        )
        module(Scores(logit=student), Scores(logit=teacher), batch)
        seen.append((torch.sigmoid(student) - label, torch.sigmoid(teacher) - label))
    s, t = (torch.cat(part) for part in zip(*seen, strict=True))
    found = module.metrics()
    assert found["lambda.0"].item() == pytest.approx(((s * t).sum() / (t * t).sum()).item(), abs=0.02)
    assert found["rho"].item() == pytest.approx(torch.corrcoef(torch.stack([s, t]))[0, 1].item(), abs=0.02)


def test_unkd_sees_the_order_alone():
    student, teacher, batch = data()
    it = subject("pair.unkd", OBJECTIVES["pair.unkd"].settings({}))
    bent = Scores(logit=teacher.logit.exp() * 3 - 7)
    assert torch.allclose(it.loss(student, bent, batch), it.loss(student, teacher, batch))


def test_continuation_ignores_what_an_ensemble_does_not_agree_on():
    student, teacher, batch = data()
    it = subject("point.continuation", {"margin": None})
    near = Scores(logit=teacher.logit + 0.3)
    torn = dataclasses.replace(teacher, variance=torch.full_like(teacher.logit, 0.1))
    assert (it.loss(near, torn, batch) == 0).all()
    assert torch.allclose(it.loss(near, teacher, batch), torch.full_like(teacher.logit, 0.09))
    assert torch.allclose(
        it.loss(student, torn, batch, phi=0.5), (it.loss(student, teacher, batch, phi=0.5) - 0.05).clamp_min(0)
    )


def test_a_harder_request_gets_a_sharper_target():
    """A lower temperature on the request that student and teacher see differently."""
    batch = Batch.example(label=[1.0, 0.0, 1.0, 0.0], request=[0, 0, 1, 1])
    student = Scores(logit=torch.tensor([2.0, 0.0, 2.0, 0.0]))
    teacher = Scores(logit=torch.tensor([2.0, 0.0, 0.0, 2.0]))
    sharper = subject("list.softmax_kl", {"temperature": 1.5}).loss(student, teacher, batch)  # w = 0 and 1
    settings = OBJECTIVES["list.dynamic_temperature"].settings({"temperature": 2.0, "beta": 1.0})
    moving = subject("list.dynamic_temperature", settings).loss(student, teacher, batch)
    assert torch.allclose(moving, sharper)

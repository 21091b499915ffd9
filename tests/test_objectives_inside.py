"""The contract of objectives that look inside (hidden layers, pooled vectors, a live teacher); that it can fail."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from recdistill.distil.entropy import coin_entropy
from recdistill.distil.facts import Facts, Widths
from recdistill.distil.inside import Inside, field_gradient
from recdistill.distil.lesson import INSIDE, made
from recdistill.plugins import Choice, load_all
from recdistill.types import Batch, Scores

OBJECTIVES = {name: p for name, p in load_all("objectives").items() if p.needs & (INSIDE | {"hidden"})}
OWN = Widths(fields=("a", "b"), field=2, pooled=5, blocks=(4, 3), hidden=3)
THEIRS = Widths(fields=("b", "a", "c"), field=3, pooled=9, blocks=(6, 5), hidden=5)
FACTS = Facts(student=OWN, teacher=THEIRS, num_members=2)
NUM_ROWS = 6
CUT = {  # objectives of which autograd does not give the slope of the value, and why that is right
    "point.backward_pass": "it looks for new points at every step, and the search is no part of what is learnt",
    "point.peers": "each tower's goal is what the others say now, and what they say is cut from the graph",
    "relation.hierarchical_topology": "centres of groups are what they are now, as its paper has them",
}
each_objective = pytest.mark.parametrize("name", OBJECTIVES)


def tanh_net(*widths):
    """Layers with a smooth bend, so that finite differences mean something."""
    return nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths)).double()


class Net:
    """A student or a teacher as far as an objective sees it: pooled vectors -> hidden layers -> logit."""

    def __init__(self, seed, *widths):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers, self.head = tanh_net(*widths), nn.Linear(widths[-1], 1).double()

    def blocks(self, pooled):
        found = []
        for layer in self.layers:
            pooled = torch.tanh(layer(pooled))
            found.append(pooled)
        return tuple(found)

    def __call__(self, pooled):
        return self.head(self.blocks(pooled)[-1]).squeeze(1)


class FakeTeacher:
    """A LiveTeacher over fixed pooled vectors by row_id."""

    def __init__(self, net, pooled):
        self.net, self.all, self.widths = net, pooled, THEIRS

    def pooled(self, batch):
        return self.all[batch.row_id].detach()

    def from_pooled(self, pooled, batch):
        return self.net(pooled.flatten(1))

    def blocks(self, batch):
        return tuple(block.detach() for block in self.net.blocks(self.pooled(batch).flatten(1)))


def a_coins_doubt(logit, label):
    """The entropy of the teacher's probabilities, below which no cross-entropy with them goes."""
    return coin_entropy(logit).mean().item()


def even_gate(logit, label):
    """Log loss of equal weights on both members, which a gate only betters."""
    return softplus((1 - 2 * label) * logit).mean().item()


def base_rate(logit, label):
    """Log loss of an adapter that says one number of all rows, which one that looks at the score only betters."""
    return coin_entropy(torch.logit(label.mean())).item()


LEAST = {  # what following the teacher is measured from, where it is not 0
    "point.block_probes": a_coins_doubt,
    "point.gated_ensemble": even_gate,
    "point.distillation_head": base_rate,
}


class World:
    """Fixed networks and vectors, and any objective's loss as a function of what the student's tower reads."""

    def __init__(self, name, wrap=lambda function: function, settings=None):
        generator = torch.Generator().manual_seed(5)
        plugin = OBJECTIVES[name]
        self.name, self.needs = name, plugin.needs
        self.student, self.teacher = Net(1, 5, 4, 3), Net(2, 9, 6, 5)
        self.theirs = torch.randn((NUM_ROWS, 3, 3), generator=generator, dtype=torch.float64)
        self.pooled = torch.randn((NUM_ROWS, 5), generator=generator, dtype=torch.float64)
        with torch.random.fork_rng():
            torch.manual_seed(5)  # one at which none of the peers' towers is born dead
            ready = made(Choice(plugin=plugin, settings=plugin.settings(settings or {})), FACTS)
        self.module = ready.double().eval() if isinstance(ready, nn.Module) else None  # selectors without noise
        self.call = wrap(ready)
        self.batch = Batch.example(label=[1.0, 0.0] * (NUM_ROWS // 2))
        logit = self.teacher(self.theirs.flatten(1)).detach()
        self.members = torch.stack([logit + 1, logit - 1], dim=1)
        self.least = LEAST[name](logit, self.batch.label) if name in LEAST else 0.0

    def loss(self, pooled, rows=None):
        rows = torch.arange(NUM_ROWS) if rows is None else rows
        live = FakeTeacher(self.teacher, self.theirs)
        batch = dataclasses.replace(
            self.batch, **{n: getattr(self.batch, n)[rows] for n in ("label", "row_id", "weight", "offset")}
        )
        pooled = pooled if pooled.requires_grad else pooled.clone().requires_grad_()
        blocks = self.student.blocks(pooled)
        hidden = live.blocks(batch)[-1]
        logit = live.from_pooled(live.pooled(batch), batch).detach()
        teacher = Scores(logit=logit, hidden=hidden, members=self.members[batch.row_id])
        student = Scores(logit=self.student.head(blocks[-1]).squeeze(1), hidden=blocks[-1])
        inside = Inside(pooled=pooled, blocks=blocks, from_pooled=self.student, teacher=live)
        extra = (inside,) if self.needs & INSIDE else ()
        return self.call(student, teacher, batch, *extra)


def check_shape(world):
    assert world.loss(world.pooled).shape == (NUM_ROWS,)


def check_not_negative(world):
    assert (world.loss(world.pooled) >= 0).all()


def check_rows_move_along(world):
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    assert torch.allclose(world.loss(world.pooled[order], order), world.loss(world.pooled)[order])


def check_rows_are_alone(world):
    """What is not said to hang on the batch does not."""
    if "batch" not in world.needs:
        rows = torch.tensor([4, 1])
        assert torch.allclose(world.loss(world.pooled[rows], rows), world.loss(world.pooled)[rows])


def check_gradient(world):
    """Autograd equals finite differences in float64."""
    if world.name in CUT:
        return
    free = world.pooled.clone().requires_grad_()
    assert torch.autograd.gradcheck(world.loss, (free,), eps=1e-6, atol=1e-5)


def check_descent(world):
    """Following the loss, with what the objective owns, brings the student nearer to the teacher."""
    free = nn.Parameter(world.pooled.clone())
    own = [*(world.module.parameters() if world.module is not None else ()), *world.student.layers.parameters()]
    optimiser = torch.optim.Adam([free, *own, *world.student.head.parameters()], lr=0.03)
    first = world.loss(free).mean().item()
    for _ in range(200):
        optimiser.zero_grad()
        world.loss(free).mean().backward()
        optimiser.step()
    last = world.loss(free).mean().item()
    assert last - world.least < 0.35 * (first - world.least), (first, last)


CHECKS = [check_shape, check_not_negative, check_rows_move_along, check_rows_are_alone, check_gradient, check_descent]


def test_there_are_objectives_that_look_inside():
    assert set(OBJECTIVES) >= {
        "feature.hint",
        "feature.attention",
        "feature.gradient",
        "feature.stage",
        "relation.distance",
        "relation.angle",
        "relation.similarity",
        "point.block_probes",
        "point.backward_pass",
        "feature.distillation_experts",
        "relation.topology",
        "relation.hierarchical_topology",
        "point.distillation_head",
        "point.gated_ensemble",
        "point.peers",
    }


@each_objective
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(name, check):
    check(World(name))


def wrong_sign(function):
    return lambda *values: -function(*values)


def reduced(function):
    return lambda *values: function(*values).mean()


def rows_mixed_up(function):
    """A row's loss lands on its neighbour."""
    return lambda *values: function(*values) + torch.arange(len(values[2]))


def leaks(function):
    """Every row hangs on all others."""
    return lambda *values: function(*values) * function(*values).sum()


def cut(function):
    """Half of the gradient is cut: the value is right, the gradient is not."""

    def mutant(*values):
        loss = function(*values)
        return (loss + loss.detach()) / 2

    return mutant


def stuck(function):
    """The value is right, but nothing follows it."""

    def mutant(*values):
        loss = function(*values)
        return loss.detach() + 0 * loss

    return mutant


MUTANTS = [
    (wrong_sign, check_not_negative),
    (stuck, check_descent),
    (reduced, check_shape),
    (rows_mixed_up, check_rows_move_along),
    (leaks, check_rows_are_alone),
    (cut, check_gradient),
]


@each_objective
@pytest.mark.parametrize(("mutation", "check"), MUTANTS, ids=lambda it: it.__name__)
def test_the_contract_catches(name, mutation, check):
    world = World(name, mutation)
    if check is check_rows_are_alone and "batch" in world.needs:
        pytest.skip(
            f"{name} weighs a row by the others of its batch and says so (NEEDS: batch): it need not stand alone"
        )
    if check is check_gradient and name in CUT:
        pytest.skip(f"no finite differences for {name}: {CUT[name]}")
    with pytest.raises((AssertionError, RuntimeError)):
        check(world)


@each_objective
def test_no_gradient_reaches_the_teacher(name):
    world = World(name)
    weights = [*world.teacher.layers.parameters(), *world.teacher.head.parameters()]
    world.loss(world.pooled).sum().backward()
    assert [weight for weight in weights if weight.grad is not None and weight.grad.any()] == []


def test_field_gradients_are_those_of_each_row_alone():
    net = Net(7, 4, 3)
    pooled = torch.randn((5, 4), dtype=torch.float64, requires_grad=True)
    together = field_gradient(net(pooled), pooled, create_graph=False)
    for row in range(5):
        alone = pooled[row : row + 1].detach().requires_grad_()
        assert torch.allclose(field_gradient(net(alone), alone, create_graph=False)[0], together[row])


def test_a_student_with_the_teachers_own_layers_has_no_relational_loss():
    """Up to a rotation and a scale, which angles and similarities do not see; distances see no scale either."""
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn((8, 3), generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn((3, 3), generator=generator, dtype=torch.float64))[0]
    teacher = Scores(logit=hidden[:, 0], hidden=hidden)
    student = Scores(logit=hidden[:, 0], hidden=4.0 * hidden @ turn)
    other = Scores(logit=hidden[:, 0], hidden=hidden.roll(1, 0) ** 3)
    batch = Batch.example(label=[0.0, 1.0] * 4)
    for name in ("relation.distance", "relation.angle", "relation.similarity"):
        function = OBJECTIVES[name].make
        assert torch.allclose(function(student, teacher, batch), torch.zeros(8, dtype=torch.float64), atol=1e-9), name
        assert (function(other, teacher, batch) > 1e-3).all(), name

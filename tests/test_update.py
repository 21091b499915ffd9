"""One step of all optimisers: rates over time, clipping, moving averages, each against its formula."""

import itertools
import math

import pytest
import torch
from torch import nn

from recdistill.config.training import Training
from recdistill.train.engine.pieces import Stored, write_pieces
from recdistill.train.engine.update import Update, rate

RATES = {"learning_rate": 0.1, "embedding_learning_rate": 0.1}


def made(weights, rates=(0.5, 0.25), kind=torch.optim.SGD, **settings):
    parameters = [nn.Parameter(torch.tensor(value)) for value in weights]
    optimisers = [kind([p], lr=lr) for p, lr in zip(parameters, rates, strict=False)]
    return Update(Training(**RATES, **settings), optimisers), parameters


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_a_rate_rises_in_its_warm_up_and_ends_as_its_schedule_says(schedule):
    told = [rate(schedule, step / 100, warmup=0.2) for step in range(101)]
    assert told[:21] == pytest.approx([step / 20 for step in range(21)])
    assert told[-1] == pytest.approx(1.0 if schedule == "constant" else 0.0)
    assert all(now <= before for before, now in itertools.pairwise(told[20:]))
    assert rate("cosine", 0.4) == pytest.approx((1 + math.cos(0.4 * math.pi)) / 2)


def test_dense_layers_and_tables_have_a_rate_and_a_schedule_each():
    update, (dense, table) = made([[1.0], [1.0]], schedule="linear", warmup=0.5, embedding_schedule="cosine")
    update(dense.sum() + table.sum(), progress=0.25, scale=1.0)
    assert dense.item() == pytest.approx(1 - 0.5 * (0.25 / 0.5))
    assert table.item() == pytest.approx(1 - 0.25 * (1 + math.cos(0.25 * math.pi)) / 2)


def test_a_scale_is_a_factor_of_all_rates_and_is_forgotten():
    update, (dense, table) = made([[1.0], [1.0]])
    for scale in (0.5, 1.0):
        update(dense.sum() + table.sum(), progress=0.0, scale=scale)
    assert dense.item() == 1 - 0.5 * 1.5
    assert table.item() == 1 - 0.25 * 1.5


def test_clipping_scales_the_gradient_of_dense_layers_alone():
    update, (dense, table) = made([[0.0, 0.0], [0.0]], rates=(1.0, 1.0), clip_norm=2.0)
    update((dense * torch.tensor([3.0, 4.0])).sum() + 50 * table.sum(), 0.0, 1.0)
    assert dense.tolist() == pytest.approx([-3.0 * 2 / 5, -4.0 * 2 / 5], rel=1e-5)
    assert table.item() == -50


def test_the_average_follows_its_formula_and_only_lends_itself():
    """A weight that goes down by 1 a step."""
    update, (dense,) = made([[0.0]], rates=(1.0,), ema=0.5)
    wanted, now = 0.0, 0.0
    for step in range(1, 40):
        update(dense.sum(), 0.0, 1.0)
        now -= 1
        kept = min(0.5, step / (9 + step))
        wanted = kept * wanted + (1 - kept) * now
    with update.averaged():
        assert dense.item() == pytest.approx(wanted)
    assert dense.item() == now


def test_without_an_average_weights_are_judged_as_they_are():
    update, (dense,) = made([[3.0]])
    with update.averaged():
        assert dense.item() == 3.0


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
def test_state_there_and_back_goes_on_to_the_same_bits(tmp_path, kind):
    one, weights = made([[1.0, -2.0], [0.5]], kind=kind, ema=0.9)
    other, others = made([[7.0, 7.0], [7.0]], kind=kind, ema=0.9)

    def step(update, parameters, number):
        update(sum((p**2).sum() for p in parameters) * (1 + number), number / 20, 1.0)

    for number in range(5):
        step(one, weights, number)
    write_pieces(tmp_path, one.pieces(), rank=0)
    other.load(Stored(tmp_path), step=5)
    for weight, copied in zip(weights, others, strict=True):
        copied.data.copy_(weight.data)
    for number in range(5, 10):
        step(one, weights, number)
        step(other, others, number)
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one.average, other.average, strict=True))

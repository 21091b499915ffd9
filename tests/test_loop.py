"""The training loop by script: what it keeps, when it looks, when it stops, and that it learns what can be learnt."""

import itertools
import logging
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.config.training import Training
from recdistill.data.batches import Batches
from recdistill.data.store import Rows, record_type
from recdistill.metrics.ranking import plain_auc
from recdistill.problems import BadInput
from recdistill.train.engine.loop import train
from recdistill.types import IdFeature, Layout

LAYOUT = Layout(ids=(IdFeature(name="a", table="a", start=0, width=1, num_rows=4, kind="single"),), dense=("x", "y"))
NUM_ROWS = 60
RATES = {"learning_rate": 0.1, "embedding_learning_rate": 0.1}  # the loop itself knows none


def rows(num_rows=NUM_ROWS, seed=0):
    """The label is 1 where x > y."""
    generator = np.random.default_rng(seed)
    dense = generator.normal(size=(num_rows, 2)).astype(np.float32)
    number = np.arange(num_rows)
    arrays = {
        "ids": np.zeros((num_rows, 1), np.int32),
        "dense": dense,
        "label": (dense[:, 0] > dense[:, 1]).astype(np.float32),
        "request": number // 4,
        "row_id": number,
    }
    records = np.zeros(num_rows, record_type(1, 2))
    for name, values in arrays.items():
        records[name] = values
    return Rows(layout=LAYOUT, records=records, events={})


class Script:
    """A training whose validation AUCs are given; its weights are the number of steps done."""

    def __init__(self, aucs, loss=lambda step: 1.0):
        self.aucs, self.loss = itertools.chain(aucs), loss
        self.parameter = nn.Parameter(torch.zeros(1))
        self.optimiser = torch.optim.SGD([self.parameter], lr=1.0)
        self.steps, self.seen, self.progress = 0, [], []

    def losses(self, batch, progress):
        self.steps += 1
        self.seen.append(len(batch))
        self.progress.append(progress)
        value = self.loss(self.steps)
        return {"loss": self.parameter.sum() * 0 + value, "part": torch.tensor(2.0 * value)}

    def run(self, batch_size=10, **settings):
        return train(
            "script",
            Training(**{"epochs": 4, "patience": 100, **RATES, **settings, "batch_size": batch_size}),
            Batches(rows=rows(), batch_size=batch_size, shuffle="rows"),
            losses=self.losses,
            optimisers=[self.optimiser],
            valid_auc=lambda: next(self.aucs),
            weights=lambda: {"steps": torch.tensor(self.steps)},
        )


PER_EPOCH = NUM_ROWS // 10


def test_the_weights_of_the_best_check_are_kept():
    found = Script([0.6, 0.8, 0.7, 0.75]).run()
    assert found.weights["steps"] == 2 * PER_EPOCH
    assert found.best.valid_auc == 0.8
    assert [check.valid_auc for check in found.curve] == [0.6, 0.8, 0.7, 0.75]
    assert [check.step for check in found.curve] == [PER_EPOCH * epoch for epoch in (1, 2, 3, 4)]


@pytest.mark.parametrize(("patience", "num_checks"), [(1, 3), (2, 4), (3, 6)])
def test_it_stops_after_as_many_worse_checks_in_a_row_as_it_has_patience(patience, num_checks):
    """An equal AUC is not a better one."""
    script = Script([0.5, 0.7, 0.7, 0.6, 0.71, 0.1])
    found = script.run(epochs=6, patience=patience)
    assert len(found.curve) == num_checks
    assert script.steps == num_checks * PER_EPOCH
    assert found.weights["steps"] == (5 if num_checks == 6 else 2) * PER_EPOCH


def test_a_better_check_gives_back_the_patience():
    assert len(Script([0.5, 0.4, 0.6, 0.5, 0.7, 0.1]).run(epochs=6, patience=2).curve) == 6


@pytest.mark.parametrize(("checks", "wanted"), [(1, [6]), (2, [3, 6]), (3, [2, 4, 6]), (6, [1, 2, 3, 4, 5, 6])])
def test_checks_are_spread_over_the_epoch_and_one_is_at_its_end(checks, wanted):
    found = Script(itertools.count()).run(epochs=2, checks_per_epoch=checks)
    assert [check.step for check in found.curve] == wanted + [6 + step for step in wanted]
    assert [check.epoch for check in found.curve][: len(wanted)] == pytest.approx([s / 6 for s in wanted], abs=1e-4)


def test_more_checks_than_batches_are_one_a_batch():
    found = Script(itertools.count()).run(epochs=2, batch_size=40, checks_per_epoch=50)
    assert [check.step for check in found.curve] == [1, 2, 3, 4]


def test_progress_runs_from_zero_towards_one_by_the_rows_seen():
    script = Script(itertools.count())
    script.run(epochs=2)
    assert script.progress == pytest.approx([step / 12 for step in range(12)])
    assert script.seen == [10] * 12


def test_every_optimiser_steps_and_no_gradient_is_left_over():
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    train(
        "two",
        Training(epochs=1, **RATES),
        Batches(rows=rows(), batch_size=10),
        losses=lambda batch, progress: {"loss": one.sum() + 2 * other.sum()},
        optimisers=[torch.optim.SGD([one], lr=0.5), torch.optim.SGD([other], lr=0.25)],
        valid_auc=lambda: 0.5,
        weights=dict,
    )
    assert one.item() == -0.5 * PER_EPOCH
    assert other.item() == -0.25 * 2 * PER_EPOCH


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_bad_input(value):
    script = Script(itertools.count(), loss=lambda step: value if step == 9 else 1.0)
    with pytest.raises(BadInput, match=r"script: step 9: wanted a finite loss, found .* over 10 rows.*; lower"):
        script.run()
    assert script.steps == 12


def test_losses_of_a_check_are_means_over_the_rows_since_the_last():
    """Batches of 40 and 20 rows; the loss is the number of the step."""
    found = Script(itertools.count(), loss=float).run(batch_size=40, epochs=2)
    means = [(40 * 1 + 20 * 2) / 60, (40 * 3 + 20 * 4) / 60]
    assert [check.losses["loss"] for check in found.curve] == pytest.approx(means)
    assert [check.losses["part"] for check in found.curve] == pytest.approx([2 * mean for mean in means])


def test_every_check_is_a_line_with_its_facts_and_is_json(caplog):
    with caplog.at_level(logging.INFO, logger="recdistill"):
        found = Script([0.6, 0.5]).run(epochs=2)
    lines = [line for record in caplog.records if (line := record.getMessage()).startswith("script:")]
    assert len(lines) == 2
    assert lines[0].startswith("script: epoch 1 of 2, loss 1.0000, part 2.0000, valid auc 0.6000 (best), ")
    assert "(best)" not in lines[1]
    assert found.curve[0].to_json()["losses"] == {"loss": 1.0, "part": 2.0}
    assert math.isfinite(found.curve[0].rows_per_s)
    assert found.curve[0].seconds > 0


def learn(seed=0, lr=0.3):
    """(trained, the model, a function that takes the model's AUC on other rows)."""
    torch.manual_seed(seed)
    model = nn.Linear(2, 1)
    other = rows(400, seed=1)

    def valid_auc():
        with torch.no_grad():
            return plain_auc(model(torch.from_numpy(other["dense"].copy())).squeeze(1).numpy(), other["label"])

    def losses(batch, progress):
        return {"loss": binary_cross_entropy_with_logits(model(batch.dense).squeeze(1), batch.label)}

    found = train(
        "linear",
        Training(epochs=8, patience=8, **RATES),
        Batches(rows=rows(400), batch_size=20, shuffle="rows", seed=seed),
        losses=losses,
        optimisers=[torch.optim.SGD(model.parameters(), lr)],
        valid_auc=valid_auc,
        weights=lambda: {name: value.detach().clone() for name, value in model.state_dict().items()},
    )
    return found, model, valid_auc


def test_a_linear_model_learns_a_linear_truth_and_its_best_weights_have_its_best_auc():
    found, model, valid_auc = learn()
    assert found.best.valid_auc > 0.99
    assert found.curve[-1].losses["loss"] < found.curve[0].losses["loss"] / 1.5
    model.load_state_dict(found.weights)
    assert valid_auc() == found.best.valid_auc


def test_the_same_seed_trains_the_same_weights():
    one, same, other = learn(0)[0].weights, learn(0)[0].weights, learn(1)[0].weights
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_weights_that_the_last_step_made_infinite_are_never_returned():
    """The loss before the step was finite; what the step made of the weights is seen by the check alone."""
    weight, window = nn.Parameter(torch.zeros(2)), rows()

    def losses(batch, progress):
        return {"loss": binary_cross_entropy_with_logits(batch.dense @ weight, batch.label)}

    with pytest.raises(BadInput):
        train(
            "one step",
            Training(epochs=1, **RATES),
            Batches(rows=window, batch_size=NUM_ROWS),
            losses=losses,
            optimisers=[torch.optim.SGD([weight], lr=float("inf"))],
            valid_auc=lambda: plain_auc((window["dense"] @ weight.detach().numpy()), window["label"]),
            weights=lambda: {"weight": weight.detach().clone()},
        )


def test_a_first_check_without_an_auc_is_not_the_best():
    found = Script([float("nan"), 0.7, 0.6]).run(epochs=3)
    assert found.best.valid_auc == 0.7
    assert found.weights["steps"] == 2 * PER_EPOCH

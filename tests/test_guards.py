"""What training must not do is noticed at the next look, with the step, its rows and the numbers."""

import pytest
import torch
from test_loop import rows

from recdistill.data.batches import Batches
from recdistill.train.engine.guards import MAX_JUMP, Broken, Guard, not_finite
from recdistill.train.engine.pieces import Piece, pieces

BATCH = next(iter(Batches(rows=rows(), batch_size=8).epoch(0)))


def noted(guard, losses):
    for step, loss in enumerate(losses, start=1):
        guard.note(step, torch.tensor(loss), BATCH)
    return guard


def test_finite_losses_of_any_size_pass_and_are_forgotten():
    guard = noted(Guard("it", []), [0.0, 1e30, -5.0])
    guard.look()
    guard.look()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_first_step_whose_loss_is_not_finite_is_named_with_its_rows(value):
    guard = noted(Guard("it", []), [0.5, value, 0.5, value])
    with pytest.raises(Broken, match=rf"^it: step 2: wanted a finite loss, found {value} over 8 rows, rows 0, 1, 2, 3"):
        guard.look()


def test_rows_of_other_steps_are_not_blamed():
    guard = noted(Guard("it", []), [0.5])
    guard.look()
    guard.note(2, torch.tensor(float("nan")), BATCH)
    with pytest.raises(Broken, match="step 2"):
        guard.look()


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_jump_is_measured_against_the_norm_before(factor):
    """From a norm of 5 to one further by `factor` times the limit."""
    weight = torch.tensor([3.0, 4.0])
    guard = noted(Guard("it", [weight]), [0.5, 0.5])
    weight += torch.tensor([-4.0, 3.0]) * MAX_JUMP * factor
    if factor < 1:
        guard.look()
        return
    with pytest.raises(
        Broken, match=r"^it: steps 1 to 2: wanted dense layers that move by less than 10 times .* 11 times"
    ):
        guard.look()


def test_small_weights_may_become_ordinary_ones():
    weight = torch.full((4,), 1e-9)
    guard = noted(Guard("it", [weight]), [0.5])
    weight += 2.0
    guard.look()


def test_weights_that_are_not_finite_are_no_jump_that_passes():
    weight = torch.ones(2)
    guard = noted(Guard("it", [weight]), [0.5])
    weight[1] = float("nan")
    with pytest.raises(Broken):
        guard.look()


def test_after_weights_were_put_back_the_way_there_does_not_count():
    weight = torch.ones(2)
    guard = noted(Guard("it", [weight]), [0.5])
    weight += 1000
    guard.forget()
    noted(guard, [0.5]).look()


def test_every_row_that_is_not_finite_is_found_wherever_it_lies():
    table = torch.zeros(9, 2)
    table[[3, 8], 1] = torch.tensor([float("nan"), float("inf")])
    whole = pieces({"item": table, "fine": torch.ones(3), "scalar": torch.tensor(float("nan")), "ids": torch.arange(3)})
    assert not_finite(whole) == ["item: rows 3, 8", "scalar: rows 0"]
    shard = Piece(name="item", tensor=table[6:], offset=(6, 0), whole=(9, 2), shared=False)
    assert not_finite([shard]) == ["item: rows 8"]
    assert not_finite(pieces({"item": torch.full((7, 1), float("nan"))})) == ["item: rows 0, 1, 2, 3, 4 and 2 more"]

"""A probe does the steps that training does: as many rows, real updates, and a speed of both passes."""

import pytest
import torch
from conftest import small_layout

from recdistill.config.teacher import Teacher
from recdistill.data.random_rows import random_rows
from recdistill.train.teachers.probe import pace, speed_of, training
from recdistill.train.teachers.shard import plain_state, world

CPU = torch.device("cpu")
LAYOUT = small_layout()
SETTINGS = Teacher.model_validate({"width": 4, "batch_size": 32, "interaction": {"use": "dcnv2", "hidden": [8]}})


@pytest.fixture
def here():
    with world(CPU) as found:
        yield found


def test_steps_go_on_over_epochs_and_tell_their_rows(here):
    _, steps = training(SETTINGS, random_rows(LAYOUT, 80, seed=1), here, seed=1)
    assert [next(steps) for _ in range(7)] == [32, 32, 16, 32, 32, 16, 32]


def test_a_step_moves_tables_and_layers(here):
    model, steps = training(SETTINGS, random_rows(LAYOUT, 320, seed=1), here, seed=1)
    before = plain_state(model)
    pace(steps, 8, CPU)
    after = plain_state(model)
    still = [name for name, value in after.items() if torch.equal(value, before[name])]
    assert len(after) > len(still)
    assert still in ([], ["history.out.bias"])  # a softmax does not know it


def test_pace_tells_rows_and_seconds(here):
    _, steps = training(SETTINGS, random_rows(LAYOUT, 320, seed=1), here, seed=1)
    num_rows, seconds = pace(steps, 3, CPU)
    assert num_rows == 3 * 32
    assert seconds > 0


def test_a_speed_is_of_both_passes(here):
    found = speed_of(SETTINGS, random_rows(LAYOUT, 320, seed=1), here, seed=1, lasting_s=0.05)
    assert found.num_steps >= 2
    assert found.train_rows_per_s > 0
    assert found.score_rows_per_s > 0

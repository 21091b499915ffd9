"""Tuning: the same trials for controls as for recipes, the best on the validation window, found again after a kill."""

import numpy as np
import pytest
from conftest import make_run

from recdistill.compare import arms as arms_module
from recdistill.compare import tune
from recdistill.compare.arms import Arm
from recdistill.compare.tune import space_of, tune_all, tuned, with_settings
from recdistill.files import whole_folder, write_json

TERMS = [
    {"use": "label.bce", "weight": 0.4},
    {"use": "point.soft_bce", "weight": 0.6, "temperature": 2.0},
    {"use": "list.softmax_kl", "weight": 0.5},
]
BEST = 0.02  # the learning rate that the made-up validation window likes best


@pytest.fixture
def arms(tmp_path):
    run = make_run(tmp_path / "log", tmp_path, recipe={"terms": TERMS}, student={"learning_rate": 0.01})
    return [Arm(name=kind, kind=kind, run=run) for kind in ("control", "student")]


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """What was trained, as (arm, learning rate): validation AUC falls with the distance from BEST."""
    done = []

    def train_one(task, inputs):
        if task.arm.name == "refused":
            return "score.hidden: wanted vectors"
        rate = task.arm.run.student.learning_rate
        done.append((task.arm.name, rate))
        with whole_folder(task.out, {}) as out:
            np.save(out / "logits.npy", np.zeros(2, dtype=np.float32))
            auc = 0.8 - abs(np.log(rate / BEST)) / 10
            write_json(out / "result.json", {"valid_auc": auc, "seconds_per_epoch": 1.0, "parameters": 5})
        return None

    monkeypatch.setattr(tune, "train_one", train_one)
    monkeypatch.setattr(arms_module, "code_digest", lambda *paths: "code")
    return done


@pytest.fixture
def inputs(tmp_path):
    found = {}
    for name in ("prepare", "train_teacher", "score"):
        found[name] = tmp_path / name
        with whole_folder(found[name], {"key": name}) as out:
            write_json(out / "x.json", {})
    return found


def test_a_control_is_tuned_by_its_rates_and_a_recipe_by_weights_and_temperatures_too(arms):
    rates = {"student.learning_rate", "student.embedding_learning_rate"}
    assert {each.place for each in space_of(arms[0])} == rates
    own = {"recipe.terms.1.weight", "recipe.terms.1.temperature", "recipe.terms.2.weight", "recipe.terms.2.temperature"}
    assert {each.place for each in space_of(arms[1])} == rates | own
    assert all(each.low < each.value < each.high for each in space_of(arms[1]))


def test_settings_reach_the_run(arms):
    changed = with_settings(arms[1], {"recipe.terms.1.temperature": 4.0, "student.learning_rate": 0.5})
    assert changed.run.recipe.terms[1].choice().settings["temperature"] == 4.0
    assert changed.run.student.learning_rate == 0.5
    assert changed.run.recipe.terms[2] == arms[1].run.recipe.terms[2]


def test_the_best_of_the_trials_is_taken_and_the_run_as_it_is_among_them(arms, trainings, inputs, tmp_path):
    found = tuned(arms[0], 12, 0, tmp_path, inputs)
    rates = [rate for _, rate in trainings]
    assert len(rates) == 12
    assert rates[0] == pytest.approx(0.01)
    distances = [abs(np.log(rate / BEST)) for rate in rates]
    assert found.run.student.learning_rate == pytest.approx(rates[int(np.argmin(distances))])
    assert min(distances) < distances[0]


def test_a_killed_search_trains_nothing_twice(arms, trainings, inputs, tmp_path):
    first = tuned(arms[1], 5, 0, tmp_path, inputs)
    assert len(trainings) == 5
    more = tuned(arms[1], 8, 0, tmp_path, inputs)
    assert len(trainings) == 8
    again = tuned(arms[1], 8, 0, tmp_path, inputs)
    assert len(trainings) == 8
    assert again.tuned == more.tuned
    assert set(first.tuned) == set(more.tuned)


def test_every_arm_has_as_many_trials_and_one_that_cannot_run_says_why(arms, trainings, inputs, tmp_path):
    refused = Arm(name="refused", kind="student", run=arms[1].run)
    found, why = tune_all([*arms, refused], 4, 0, tmp_path, inputs, processes=2)
    assert [arm.name for arm in found] == ["control", "student"]
    assert why == {"refused": "score.hidden: wanted vectors"}
    names = [name for name, _ in trainings]
    assert names.count("control") == names.count("student") == 4

"""Every recipe that says it runs on pairs does: it trains a student of pairs that is finite and not its control."""

import pytest
import torch
from pairs_world import NUM_ITEMS, pairs_run, write_checkerboard
from recipe_rows import ENTRIES

from recdistill.config.unfit import runs_on
from recdistill.pairs.student import fit_student
from recdistill.pipeline import run_all

pytestmark = pytest.mark.slow
ON_PAIRS = [entry for entry in ENTRIES if "pairs" in runs_on(entry.section)]
UNTAUGHT = {"label_smoothing"}  # follows no teacher


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(run, folders up to score, the control's weights)."""
    root = tmp_path_factory.mktemp("recipes-on-pairs")
    student = {"epochs": 2, "patience": 2, "seeds": 1}
    run = pairs_run(write_checkerboard(root / "log"), root, student=student, score={"top": NUM_ITEMS})
    folders = run_all(run, until="score").folders
    return run, folders, fit_student(run, folders, run.recipe, 1, arm="control").weights


def test_there_are_recipes_for_pairs():
    assert len(ON_PAIRS) >= 25


@pytest.mark.parametrize("entry", ON_PAIRS, ids=lambda entry: entry.name)
def test_a_recipe_trains_on_pairs(world, entry):
    run, folders, control = world
    trained = fit_student(run, folders, entry.section, 1, arm="student")
    assert all(torch.isfinite(value).all() for value in trained.weights.values())
    changed = any(not torch.equal(value, control[name]) for name, value in trained.weights.items())
    assert changed or entry.name in UNTAUGHT

"""Every recipe trains a student of its own through the real step; without weight on the teacher it is its control."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import make_run
from pydantic import ValidationError

from recdistill.config.recipe import RecipeSection
from recdistill.data.store import open_rows
from recdistill.files import read_json
from recdistill.pipeline import run_all
from recdistill.problems import BadInput
from recdistill.train.predict import predict
from recdistill.train.students.student import fit_student, open_student

RECIPES = sorted((Path(__file__).resolve().parent.parent / "configs/recipes").glob("*.yaml"))
STUDENT = {"seeds": 1, "width": 4, "tower": [8, 6], "attention": 4}


@pytest.fixture(scope="module")
def world(tiny_log, tmp_path_factory):
    """(run, the folders that a student learns from) of a tiny run up to distil, which is its own yesterday."""
    score = {"candidates": {"per_request": 2, "by": "random", "item_columns": ["categories", "price"]}}
    score |= {"hidden": "float16", "members": True}
    ids = ["item_id", {"column": "country", "serve": "never"}, {"column": "categories", "max_values": 2}]
    run = make_run(
        tiny_log,
        tmp_path_factory.mktemp("distil"),
        student=STUDENT,
        score=score,
        teacher={"members": 2, "folds": {"count": 2}},
        features={"ids": ids},
    )
    done = run_all(run, until="distil")
    return run, done.folders


def read(path, run):
    tree = yaml.safe_load(path.read_text())
    return RecipeSection.model_validate({**tree, **({"previous": run.folder} if "previous" in tree else {})})


def fit(world, section, arm="student", seed=1):
    run, folders = world
    return fit_student(run, folders, section, seed, arm=arm)


@pytest.fixture(scope="module")
def trained(world):
    """Weights by recipe, each trained when it is first asked for."""
    run, _ = world
    found = {}

    def weights(path):
        if path.stem not in found:
            found[path.stem] = fit(world, read(path, run)).weights
        return found[path.stem]

    return weights


def test_there_is_a_recipe_for_every_paper():
    assert len(RECIPES) >= 68


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_a_student_of_finite_weights_that_is_not_its_control(world, trained, path):
    weights = trained(path)
    control = fit(world, read(path, world[0]), arm="control").weights
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert not same(weights, control)


def test_no_recipe_is_a_copy_of_another(trained):
    found = {path.stem: trained(path) for path in RECIPES}
    twins = [(a, b) for a in found for b in found if a < b and same(found[a], found[b])]
    assert twins == []


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


WITHOUT = {
    "pointwise": {"terms": ["label.bce", {"use": "point.soft_bce", "weight": 0.0}]},
    "listwise": {"terms": ["label.bce", {"use": "list.softmax_kl", "weight": 0.0}]},
    "inside": {"teacher": "live", "terms": ["label.bce", {"use": "feature.gradient", "weight": 0.0}]},
    "own weights": {"terms": ["label.bce", {"use": "point.block_probes", "weight": 0.0}]},
    "annealed away": {
        "terms": ["label.bce", "point.soft_bce"],
        "schedule": {"use": "linear", "start": 0.0, "end": 0.0},
    },
    "self": {"teacher": "self", "terms": ["label.bce", {"use": "point.soft_bce", "weight": 0.0}]},
    "joint": {
        "teacher": "joint",
        "partner": {"terms": ["label.bce"]},
        "terms": ["label.bce", {"use": "point.logit_mse", "weight": 0.0}],
    },
}


@pytest.mark.parametrize("name", WITHOUT)
def test_without_weight_on_the_teacher_a_student_is_its_control_to_the_bit(world, name):
    section = RecipeSection.model_validate(WITHOUT[name])
    student, control = (fit(world, section, arm) for arm in ("student", "control"))
    assert same(student.weights, control.weights)


def test_a_little_weight_on_the_teacher_would_be_noticed(world):
    section = RecipeSection.model_validate({"terms": ["label.bce", {"use": "point.soft_bce", "weight": 1e-3}]})
    assert not same(fit(world, section).weights, fit(world, section, "control").weights)


def test_a_student_is_the_same_whenever_it_is_trained(world, trained):
    for name in ("soft_bce", "gradient", "mutual", "condensation"):
        path = next(path for path in RECIPES if path.stem == name)
        assert same(fit(world, read(path, world[0])).weights, trained(path)), name


def test_fitting_writes_nothing(world):
    run, _ = world
    before = sorted(Path(run.folder).rglob("*"))
    fit(world, RecipeSection.model_validate({"terms": ["point.soft_bce"]}))
    assert sorted(Path(run.folder).rglob("*")) == before


def test_frozen_tables_stay_the_teachers_projection_and_warm_ones_move(world):
    terms = ["label.bce", "point.soft_bce"]
    frozen = fit(world, RecipeSection.model_validate({"init": "teacher_pca", "trains_tables": False, "terms": terms}))
    warm = fit(world, RecipeSection.model_validate({"init": "teacher_pca", "terms": terms}))
    tables = [name for name in frozen.weights if name.startswith("tables.")]
    assert tables
    for name in tables:
        assert not torch.equal(frozen.weights[name], warm.weights[name])
        assert torch.allclose(frozen.weights[name].mean(dim=0), torch.zeros(1), atol=1e-5)  # a projection is centred


def test_gradients_are_learnt_over_frozen_tables_too(world):
    settings = {
        "init": "teacher_pca",
        "trains_tables": False,
        "teacher": "live",
        "terms": ["label.bce", "feature.gradient"],
    }
    assert fit(world, RecipeSection.model_validate(settings)).curve[-1].losses["feature.gradient"] > 0


def test_candidates_are_learnt_from_by_the_teachers_terms_alone(world, tiny_log, tmp_path):
    """They change what the teacher's terms teach; a run that stored none says so."""
    terms = ["label.bce", "list.softmax_kl"]
    sections = [RecipeSection.model_validate({"unlabelled": it, "terms": terms}) for it in (True, False)]
    more, shown = (fit(world, section).weights for section in sections)
    assert not same(more, shown)
    bare = make_run(tiny_log, tmp_path, student=STUDENT)
    with pytest.raises(BadInput, match=r"score.candidates: wanted candidates to learn from, found none; write score"):
        fit_student(bare, world[1], sections[0], 1, arm="student")


def test_the_curve_holds_rho_and_lambda(world):
    section = RecipeSection.model_validate({"terms": [{"use": "point.variance_reduction", "groups": 3}]})
    losses = fit(world, section).curve[-1].losses
    assert {"rho", "lambda.0", "lambda.1", "lambda.2"} <= set(losses)
    assert -1 <= losses["rho"] <= 1
    assert all(0 <= losses[f"lambda.{group}"] <= 0.95 for group in range(3))


@pytest.mark.parametrize("shape", [{"assistant": 0.25}, {"history": "mean", "depth": 2}, {"memory": 3}])
def test_a_reshaped_student_comes_back_from_disk_as_it_was(world, tmp_path, tiny_log, shape):
    """And only the student: its control is as the run describes it."""
    terms = ["label.bce", "point.soft_bce"]
    recipe, score = {"terms": terms, "student": shape}, {"hidden": "float16"}
    run = make_run(tiny_log, tmp_path, student=STUDENT, recipe=recipe, score=score)
    done = run_all(run, until="distil")
    layout = open_rows(done.folders["prepare"], "valid").layout
    rows = open_rows(done.folders["prepare"], "valid")
    best = {}
    for arm in ("student", "control"):
        model = open_student(run, layout, done.folders["distil"], arm, 0)
        logit = predict(model, rows, torch.device("cpu"))
        assert np.isfinite(logit).all()
        best[arm] = model
    assert [str(best[arm]) for arm in ("student", "control")] == list({str(model): 0 for model in best.values()})
    assert read_json(done.folders["distil"] / "students.json")["rows_per_s"]["control"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("shape", [{"assistant": 0.25}, {"history": "mean", "depth": 2}, {"memory": 3}])
def test_a_reshaped_student_ships(tmp_path, tiny_log, shape):
    """The export step refuses a bundle that scores otherwise than torch."""
    recipe, score = {"terms": ["point.soft_bce"], "student": shape}, {"hidden": "float16"}
    run = make_run(tiny_log, tmp_path, student=STUDENT, recipe=recipe, score=score)
    assert run_all(run, until="export").did[-1] == "export"


def test_hints_are_learnt_from_stored_hidden_vectors(tmp_path, tiny_log):
    recipe = {"terms": ["label.bce", {"use": "feature.hint", "weight": 0.1}]}
    run = make_run(tiny_log, tmp_path, student=STUDENT, score={"hidden": "float16"}, recipe=recipe)
    done = run_all(run, until="distil")
    curve = read_json(done.folders["distil"] / "students.json")["curves"]["student"][0]
    assert curve[-1]["losses"]["feature.hint"] > 0


def test_scores_that_are_not_there_are_told_before_training(world, tmp_path):
    run, folders = world
    shutil.copytree(folders["score"], tmp_path / "score", ignore=shutil.ignore_patterns("train-out-of-fold"))
    section = RecipeSection.model_validate({"scores": "out_of_fold", "terms": ["point.soft_bce"]})
    with pytest.raises(
        BadInput,
        match=r"recipe.scores: out_of_fold: wanted a score store .*; set teacher.folds, or use scores: in_sample",
    ):
        fit((run, {**folders, "score": tmp_path / "score"}), section)


WANTING = {
    "hidden": {"terms": ["feature.hint"]},
    "members": {"terms": ["label.bce", "point.gated_ensemble"]},
    "memory": {"terms": ["point.soft_bce"], "student": {"memory": 4}},
}


@pytest.mark.parametrize("what", WANTING)
def test_what_was_not_stored_is_told_before_training(tiny_log, tmp_path, what):
    """By the config, and by the step where a config of other stores is at hand."""
    with pytest.raises(ValidationError, match=r"recipe: wanted .*, found score\.\w+: (none|false); set"):
        make_run(tiny_log, tmp_path, student=STUDENT, recipe=WANTING[what])
    run = make_run(tiny_log, tmp_path, student=STUDENT)
    folders = run_all(run, until="score").folders
    with pytest.raises(BadInput, match=r"score\.(hidden|members): wanted stored .*, found none; set score\."):
        fit_student(run, folders, RecipeSection.model_validate(WANTING[what]), 1, arm="student")


def test_an_earlier_run_that_is_not_there_is_told(world, tmp_path):
    section = RecipeSection.model_validate(
        {"previous": str(tmp_path), "targets": ["delta"], "terms": ["point.soft_bce"]}
    )
    with pytest.raises(BadInput, match=r"recipe.previous: .*wanted a run with a finished prepare step, found none"):
        fit(world, section)

"""Recipes side by side: a judge that pairs users and seeds, arms that are trained once, tables that say it all."""

import copy
import csv
import json
import shlex
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from conftest import make_run

from recdistill.cli.compare import page_command
from recdistill.compare import arms as arms_module
from recdistill.compare.arms import Arm, arms_of, changed, finished, swept
from recdistill.compare.judge import against, holm, judge, p_value, rarer_half, recall_of
from recdistill.compare.league import line
from recdistill.compare.table import as_markdown, as_text, plot, write_csv
from recdistill.files import whole_folder, write_json
from recdistill.metrics.rows import Rows


def rows(seed=0, num_rows=3000, num_users=60):
    generator = np.random.default_rng(seed)
    request = np.r_[np.arange(num_users * 2), generator.integers(0, num_users * 2, num_rows - num_users * 2)]
    label = (generator.random(num_rows) < 0.4).astype(np.float64)
    return Rows(label=label, user=request // 2, request=request), generator


def noisy(judged, generator, noise):
    return judged.label + generator.normal(0, noise, len(judged.label))


def test_the_better_model_gains_and_the_same_one_does_not():
    judged, generator = rows()
    at = judge(judged, noisy(judged, generator, 1), judged.user < 0, draws=300, num_seeds=2, seed=1)
    good, bad = (at([noisy(judged, generator, noise) for _ in range(2)]) for noise in (1.0, 3.0))
    gain, p = against(good, bad, "auc")
    assert gain[1] > 0
    assert p < 0.01
    assert against(good, good, "auc") == ([0.0, 0.0, 0.0], 1.0)
    assert "tail_auc" not in good  # nothing is rare


def test_the_value_is_the_mean_of_the_seeds_and_draws_pair_them():
    judged, generator = rows()
    logits = [noisy(judged, generator, 1) for _ in range(3)]
    at = judge(judged, logits[0], judged.user < 0, draws=50, num_seeds=3, seed=1)
    together = at(logits)["auc"]
    alone = [at([logit])["auc"] for logit in logits]
    assert together[0] == pytest.approx(np.mean([one[0] for one in alone]))
    shifted = at([logit + 5 for logit in logits])["auc"]
    assert np.array_equal(together, shifted)
    assert together[1:].std() > 0


def test_the_tail_is_judged_by_itself():
    judged, generator = rows()
    tail = generator.random(len(judged.label)) < 0.3
    at = judge(judged, judged.label, tail, draws=20, num_seeds=1, seed=1)
    logit = np.where(tail, -judged.label, judged.label) + generator.normal(0, 1e-3, len(tail))
    found = at([logit])
    assert found["tail_auc"][0] == pytest.approx(0.0)
    assert 0 <= found["tail_recall_at_10"][0] < at([judged.label + 0.0])["tail_recall_at_10"][0]


def test_recall_of_the_rare_is_counted_by_hand():
    judged = Rows(
        label=np.array([1.0, 1, 1, 1, 0, 1]),
        user=np.array([0, 0, 0, 1, 1, 1]),
        request=np.array([0, 0, 0, 1, 1, 1]),
    )
    rare = np.array([True, True, False, True, True, False])
    logit = np.array([3.0, 1, 2, 1, 3, 2])
    weight = np.array([[1.0, 1], [1, 0], [0, 1]])
    assert recall_of(rare, logit, judged, weight, k=2).tolist() == [1 / 3, 1 / 2, 0 / 1]


def test_half_of_the_positives_are_rare_and_unseen_items_too():
    assert rarer_half(np.arange(4), np.array([0, 10, 4, 6])).tolist() == [True, False, True, True]


def test_p_values_are_two_sided_and_never_zero():
    draws = np.r_[0.5, np.linspace(0.1, 1, 99)]
    assert p_value(draws) == p_value(-draws) == pytest.approx(2 / 100)
    assert p_value(np.full(3, np.nan)) == 1.0


def test_a_plain_difference_stays_one_among_a_hundred_comparisons():
    draws = 8 + np.random.default_rng(0).standard_normal(201)
    others = {f"recipe {n}": 0.5 for n in range(99)}
    assert holm({"clear": p_value(draws), **others})["clear"] < 0.001


def test_corrected_p_values_never_fall_below_their_own_and_keep_their_order():
    p = {f"recipe {n}": value for n, value in enumerate(np.random.default_rng(0).random(8))}
    found = holm(p)
    assert list(found) == list(p)
    assert all(found[name] >= p[name] for name in p)
    assert min(found.values()) == pytest.approx(min(1.0, 8 * min(p.values())))
    by_size = sorted(p, key=p.get)
    assert [found[name] for name in by_size] == sorted(found.values())


def test_an_arm_per_recipe_and_two_controls_that_differ_in_width_alone(tmp_path):
    run = make_run(tmp_path / "log", tmp_path)
    arms = arms_of(run, {"soft": run})
    assert [(arm.name, arm.kind) for arm in arms] == [
        ("control", "control"),
        ("bigger student", "control"),
        ("soft", "student"),
    ]
    assert arms[1].run.student.tower == [size * 2 for size in run.student.tower]
    assert arms[1].run.teacher == arms[0].run.teacher
    assert [arm.name for arm in arms_of(run, {"soft": run}, bigger=False)] == ["control", "soft"]


def test_stressed_labels_have_a_control_under_the_same_stress(tmp_path):
    run = make_run(tmp_path / "log", tmp_path)
    sweep = {"stress.flip_positives": [0.1, 0.2]}
    noise = make_run(tmp_path / "log", tmp_path, recipe={"terms": run.recipe.terms, "sweep": sweep})
    again = changed(noise, "recipe.stress.flip_positives", 0.2)
    by_name = {arm.name: arm for arm in arms_of(run, {"soft": run, "noise": noise, "again": again})}
    assert {name: arm.control for name, arm in by_name.items() if arm.kind == "student"} == {
        "soft": "control",
        "noise flip_positives=0.1": "control flip_positives=0.1",
        "noise flip_positives=0.2": "control flip_positives=0.2",
        "again": "control flip_positives=0.2",
    }
    assert [name for name, arm in by_name.items() if arm.kind == "control"] == [
        "control",
        "bigger student",
        "control flip_positives=0.1",
        "control flip_positives=0.2",
    ]
    assert by_name["control flip_positives=0.1"].run.recipe.stress.flip_positives == 0.1


def test_a_sweep_is_an_arm_per_value(tmp_path):
    terms = [{"use": "point.soft_bce", "weight": 1.0, "temperature": 1.0}]
    run = make_run(tmp_path / "log", tmp_path, recipe={"terms": terms, "sweep": {"terms.0.temperature": [2.0, 4.0]}})
    found = swept("soft", run)
    assert [name for name, _ in found] == ["soft temperature=2.0", "soft temperature=4.0"]
    assert [each.recipe.recipe().terms[0].objective.settings["temperature"] for _, each in found] == [2.0, 4.0]
    assert changed(run, "recipe.terms.0.weight", 0.5).recipe.terms[0].weight == 0.5


def test_a_training_is_found_again_only_whole_and_for_the_same_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(arms_module, "code_digest", lambda *paths: "code")
    run = make_run(tmp_path / "log", tmp_path)
    inputs = {}
    for name in ("prepare", "train_teacher", "score"):
        inputs[name] = tmp_path / name
        with whole_folder(inputs[name], {"key": name}) as out:
            write_json(out / "x.json", {})
    arm = Arm(name="soft bce", kind="student", run=run)
    folder = arm.folder(tmp_path, 0, inputs)
    assert finished(folder) is None
    with whole_folder(folder, {}) as out:
        np.save(out / "logits.npy", np.arange(3, dtype=np.float32))
        write_json(out / "result.json", {"valid_auc": 0.7, "seconds_per_epoch": 1.0, "parameters": 5})
    assert finished(folder).logit.tolist() == [0, 1, 2]
    keys = {
        folder,
        arm.folder(tmp_path, 1, inputs),
        Arm(name="soft bce", kind="control", run=run).folder(tmp_path, 0, inputs),
    }
    other = run.model_copy(update={"student": run.student.model_copy(update={"width": 3})})
    keys.add(Arm(name="soft bce", kind="student", run=other).folder(tmp_path, 0, inputs))
    assert len(keys) == 4
    (folder / "logits.npy").write_bytes(b"cut")
    assert finished(folder) is None


@pytest.fixture
def found():
    judged, generator = rows()
    at = judge(judged, noisy(judged, generator, 0.5), judged.user < 30, draws=100, num_seeds=1, seed=0)
    draws = {
        name: at([noisy(judged, generator, noise)]) for name, noise in (("teacher", 0.5), ("control", 2), ("soft", 1))
    }
    about = {
        "control": "control",
        "parameters": 10,
        "bytes": 4000,
        "p99_ms": 2.0,
        "p99_ratio": 1.25,
        "cost": 1.5,
        "p": 0.01,
        "valid_auc": [0.5],
    }
    models = [line(name, drawn, draws["control"], draws["teacher"], "auc") | about for name, drawn in draws.items()]
    models[0] |= dict.fromkeys(("p", "cost", "bytes", "p99_ms", "p99_ratio"))
    refused = {"name": "hint", "refused": "score.hidden: wanted vectors"}
    return {"name": "made", "num_rows": 3000, "num_users": 60, "seeds": 1, "models": [*models, refused]}


def test_recovery_is_whole_for_the_teacher_and_none_for_the_control(found):
    teacher, control, soft, _ = found["models"]
    assert teacher["recovery"] == [1.0, 1.0, 1.0]
    assert control["recovery"] == [0.0, 0.0, 0.0]
    assert 0 < soft["recovery"][1] <= soft["recovery"][0] <= soft["recovery"][2] < 1
    json.dumps(found)


def test_every_model_is_in_every_table(found, tmp_path):
    for text in (as_text(found, "auc"), as_markdown(found, "auc")):
        assert all(model["name"] in text for model in found["models"])
        assert "score.hidden: wanted vectors" in text
        assert f"{found['models'][2]['metrics']['auc'][0]:.4f}" in text
    write_csv(found, tmp_path / "out.csv")
    lines = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [entry["name"] for entry in lines] == ["teacher", "control", "soft"]
    assert float(lines[2]["gain_auc_low"]) == found["models"][2]["gain"]["auc"][1]
    backend = matplotlib.get_backend()
    plot(found, "auc", tmp_path / "out.svg")
    assert matplotlib.get_backend() == backend, "a notebook keeps its own"
    assert (tmp_path / "out.svg").read_text().count("soft") >= 1


def test_a_model_far_off_does_not_squeeze_the_others_of_a_plot(found, tmp_path):
    far = copy.deepcopy(found)
    plot(far, "auc", tmp_path / "near.svg")
    far["models"][2]["gain"]["auc"] = [-9.0, -9.5, -8.5]
    far["models"][2]["metrics"]["auc"] = [-8.5, -9.0, -8.0]
    plot(far, "auc", tmp_path / "far.svg")
    near, off = ((tmp_path / name).read_text() for name in ("near.svg", "far.svg"))
    assert "-9.0000" in off
    assert "-9.0000" not in near


def test_a_plot_without_bundles_has_every_model(found, tmp_path):
    unserved = [model if "refused" in model else {**model, "bytes": None} for model in found["models"]]
    plot({**found, "models": unserved}, "auc", tmp_path / "out.svg")
    for model in unserved:
        assert (model["name"] in (tmp_path / "out.svg").read_text()) == ("refused" not in model)


def test_a_pages_command_can_be_pasted():
    said = page_command(Path("configs/my.yaml"), ["student.tower=[32, 16]"], "rd,cd", 3, 20, bigger=False).strip("`")
    wanted = ["configs/my.yaml", "student.tower=[32, 16]", "--recipes", "rd,cd", "--seeds", "3", "--trials", "20"]
    assert shlex.split(said) == ["recdistill", "compare", *wanted, "--no-bigger"]
    assert page_command(Path("my.yaml"), [], "all", 1, 0) == "`recdistill compare my.yaml --recipes all --seeds 1`"


@pytest.mark.slow
def test_recipes_are_compared_from_the_command_line_once(tiny_log, tmp_path, call):
    """Two processes; what cannot run says why; the second time nothing is trained."""
    config = tmp_path / "made.yaml"
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "soft.yaml").write_text("terms: [{use: label.bce, weight: 0.5}, {use: point.soft_bce, weight: 0.5}]\n")
    (recipes / "hint.yaml").write_text("terms: [{use: label.bce}, {use: feature.hint}]\n")
    delta = "previous: nowhere\ntargets: [{use: delta, alpha: 1.0}]\nterms: [{use: label.bce}, {use: point.soft_bce}]\n"
    (recipes / "delta.yaml").write_text(delta)
    noise = "terms: [{use: label.bce, weight: 0.0}, {use: point.soft_bce}]\nstress: {flip_positives: 0.9}\n"
    (recipes / "noise.yaml").write_text(noise)
    run = make_run(tiny_log, tmp_path)
    config.write_text(json.dumps(run.model_dump(mode="json", exclude_unset=True)))
    command = ["compare", str(config), "--seeds", "2", "--processes", "2", "--json", str(tmp_path / "out.json")]
    status, first, error = call(*command)
    assert status == 0, error
    models = [json.loads(text) for text in (tmp_path / "out.json").read_text().splitlines()]
    assert {model["name"] for model in models} == {
        *("teacher", "control", "bigger student", "soft", "hint", "delta"),
        *("noise", "control flip_positives=0.9"),
    }
    by_name = {model["name"]: model for model in models}
    teacher, noise, control = (by_name[name] for name in ("teacher", "noise", "control flip_positives=0.9"))
    lead = [of["metrics"]["auc"][0] - control["metrics"]["auc"][0] for of in (noise, teacher)]
    assert noise["gain"]["auc"][0] == pytest.approx(lead[0])
    assert noise["recovery"][0] == pytest.approx(lead[0] / lead[1])
    assert control["metrics"]["log_loss"][0] > by_name["control"]["metrics"]["log_loss"][0], "it has learned the noise"
    trained = [model for model in models if model["name"] in ("control", "soft")]
    assert all(model["bytes"] > 0 and model["p99_ratio"] > 0 for model in trained)
    refused = next(model for model in models if model["name"] == "hint")["refused"]
    assert "score.hidden" in refused
    found_while_training = next(model for model in models if model["name"] == "delta")["refused"]
    assert found_while_training.startswith("recipe.previous: nowhere: wanted a run with")
    folders = sorted(tmp_path.rglob("compare/soft-*"))
    made = [folder.stat().st_mtime_ns for folder in folders]
    assert len(made) == 2
    _, again, _ = call(*command)
    assert [folder.stat().st_mtime_ns for folder in folders] == made
    assert first.splitlines()[-1] == again.splitlines()[-1]

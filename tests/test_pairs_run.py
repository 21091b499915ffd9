"""The shape of pairs through every step: log, teacher, lists, students, bundle, gates, registry, comparison, scorer."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pairs_world import pairs_run, write_checkerboard

from recdistill.bundle import open_bundle
from recdistill.compare.league import compare
from recdistill.files import read_json
from recdistill.pairs.lists import LISTS, open_teacher
from recdistill.pairs.store import open_acts
from recdistill.pairs.student import fit_student
from recdistill.pipeline import run_all
from recdistill.problems import BadInput
from recdistill.promotion.registry import open_registry
from recdistill.result import result, tables
from recdistill.serve.scorer import Scorer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(the log, a run on it, its finished folders)."""
    root = tmp_path_factory.mktemp("pairs-run")
    run = pairs_run(write_checkerboard(root / "log"), root)
    return root / "log", run, run_all(run).folders


def test_a_teacher_finds_the_planted_truth(world):
    """Of 60 items a user likes 20; 11 or 12 of these it has acted on, so the rest are the first of its list."""
    _, _, folders = world
    report = read_json(folders["evaluate"] / "report.json")
    assert report["models"]["teacher"]["hit_rate_at_10"][0] > 0.9
    assert report["models"]["teacher"]["recall_at_10"][0] > 3 * 10 / 60
    assert report["num_users"] == 90
    assert set(report["models"]) == {"teacher", "student", "control", "shipped"}


def test_lists_are_stored_once_as_lists(world):
    _, _, folders = world
    with pa.ipc.open_file(folders["score"] / LISTS) as reader:
        table = reader.read_all()
    assert table.schema.field("item").type == pa.list_(pa.int32(), 20)
    teacher, acts = open_teacher(folders["score"], folders["prepare"]), open_acts(folders["prepare"], "train")
    user = np.repeat(np.arange(acts.num_users), 20)
    assert not acts.holds(user[40:], teacher.top.reshape(-1)[40:]).any()


def test_gates_and_registry_are_those_of_every_run(world):
    _, run, folders = world
    found = result(run, folders)
    assert found["version"] == 1
    assert "recall_at_10" in tables(found)
    version = open_registry(run).version(1)
    assert version.tags["verdict"] == found["verdict"]
    assert run_all(run).did == ()


def test_a_later_run_is_judged_against_the_champion(world):
    log, run, folders = world
    if read_json(folders["decide"] / "decision.json")["verdict"] != "PASS":
        open_registry(run).promote(1, why="test", key="test", force=True)
    other = pairs_run(log, log.parent, student={"epochs": 1, "seeds": 1}, name="tiny-pairs")
    decision = read_json(run_all(other).folders["decide"] / "decision.json")
    champion = decision["champion"]
    assert champion["version"] == 1
    assert champion["difference"]["recall_at_10"][0] is not None


def test_a_bundle_scores_and_searches_alike(world):
    _, _, folders = world
    shipped = folders["export"] / read_json(folders["export"] / "export.json")["shipped"]
    assert open_bundle(shipped).check_golden() <= 1e-4
    scorer = Scorer(shipped)
    users = pq.read_table(shipped / "user_vectors.parquet").column("user_id").to_pylist()
    items = pq.read_table(shipped / "item_vectors.parquet").column("item_id").to_pylist()
    for user in users[:5]:
        every = scorer.score({"user_id": user}, candidates={"item_id": items})
        place = np.argsort(-every, kind="stable")[:7]
        for by in ("exact", "index"):
            found, logit = scorer.nearest(7, user, by=by)
            assert found.to_pylist() == [items[n] for n in place]
            np.testing.assert_allclose(logit, every[place], atol=1e-5)
        rest, _ = scorer.nearest(3, user, without=[items[place[0]], "no such item"])
        assert rest.to_pylist() == [items[n] for n in place[1:4]]
    with pytest.raises(BadInput, match="user_id"):
        scorer.nearest(3, -1)


def test_recipes_are_compared_on_the_same_users(world):
    log, run, _ = world
    recipes = {
        "kl": run,
        "rrd": pairs_run(log, log.parent, recipe={"terms": [{"use": "label.bce"}, {"use": "rank.relaxed_ranking"}]}),
    }
    found = compare(run, recipes, {"live": "a reason"}, num_seeds=2, processes=1)
    models = {model["name"]: model for model in found["models"]}
    assert {"teacher", "control", "bigger student", "kl", "rrd", "live"} <= set(models)
    assert models["live"]["refused"] == "a reason"
    assert models["rrd"]["gain"]["recall_at_10"][0] is not None
    assert "recall_at_10_unpopular" in models["rrd"]["metrics"]
    assert found["num_users"] == 90
    json.dumps(found)


@pytest.mark.parametrize("loss", ["bpr", "softmax", "bce"])
@pytest.mark.parametrize("use", ["mf", "lightgcn"])
def test_every_model_learns_by_every_loss(world, use, loss):
    log, _, folders = world
    student = {"width": 8, "epochs": 12, "pairs": {"use": use, "loss": loss, "negatives": 2}}
    run = pairs_run(log, log.parent, student=student)
    trained = fit_student(run, folders, run.recipe, 1, arm="control")
    assert trained.best.valid_auc > 0.4  # 10 of 50 by chance: .2


@pytest.mark.parametrize("use", ["mf", "lightgcn"])
def test_a_model_learns_against_all_items_at_once(world, use):
    log, _, folders = world
    student = {"width": 8, "epochs": 12, "pairs": {"use": use, "loss": "softmax", "negatives": "all"}}
    run = pairs_run(log, log.parent, student=student)
    for arm in ("control", "student"):
        assert fit_student(run, folders, run.recipe, 1, arm=arm).best.valid_auc > 0.4  # 10 of 50 by chance: .2


def test_hidden_vectors_and_student_lists_serve_recipes(world):
    log, _, folders = world
    terms = [{"use": "label.bce"}, {"use": "feature.hint"}, {"use": "rank.relaxed_ranking"}]
    run = pairs_run(
        log, log.parent, recipe={"terms": terms, "lists": {"teacher_top": 5, "student_top": 5, "random": 5}}
    )
    trained = fit_student(run, folders, run.recipe, 1, arm="student")
    assert {"label.bpr", "feature.hint", "rank.relaxed_ranking"} <= set(trained.curve[0].losses)


def test_a_warm_student_begins_as_close_to_its_teacher_as_its_width_allows(world):
    log, _, folders = world
    warm = pairs_run(log, log.parent, student={"width": 4}, recipe={"init": "teacher_pca", "trains_tables": False})
    weights = fit_student(warm, folders, warm.recipe, 1, arm="student").weights
    teacher = open_teacher(folders["score"], folders["prepare"])
    whole = (teacher.user @ teacher.item.T).double().numpy()
    left, value, right = np.linalg.svd(whole)
    best = (left[:, :4] * value[:4]) @ right[:4]
    assert np.abs((weights["user"] @ weights["item"].T).numpy() - best).max() < 1e-4 * np.abs(whole).max()


def test_a_warm_student_goes_on_learning_and_its_control_begins_afresh(world):
    log, _, folders = world
    runs = [
        pairs_run(log, log.parent, recipe={"init": "teacher_pca", "trains_tables": trains}) for trains in (False, True)
    ]
    stays, learns = (fit_student(run, folders, run.recipe, 1, arm="student") for run in runs)
    assert [check.step for check in stays.curve] == [0]
    assert learns.best.step > 0
    assert not torch.equal(stays.weights["user"], learns.weights["user"])
    controls = [fit_student(run, folders, run.recipe, 1, arm="control").weights for run in (*runs, world[1])]
    assert all(torch.equal(one["user"], controls[-1]["user"]) for one in controls)


def test_a_student_that_is_not_trained_goes_through_every_step(world, tmp_path):
    log, _, _ = world
    run = pairs_run(log, tmp_path, recipe={"init": "teacher_pca", "trains_tables": False})
    folders = run_all(run).folders
    assert result(run, folders)["version"] == 1
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Learning" in page
    assert ">0<" in page.split("Training, first seed", 1)[1].split("</table>", 1)[0]  # of epochs

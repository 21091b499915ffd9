"""Paired intervals over users and seeds, recovery by hand, and the report of models whose quality is planted."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_run

from recdistill import evaluate
from recdistill.data.store import Rows, record_type
from recdistill.evaluate import bundle_logits, compare, draws_for, judged_rows, recovery, report_on
from recdistill.metrics.bootstrap import Bootstrap, difference
from recdistill.metrics.measure import measure
from recdistill.types import Layout

NUM_ROWS, NUM_USERS = 900, 30


def rows():
    """Users of 30 rows in 2 requests each; keys as a store holds them, not numbered."""
    generator = np.random.default_rng(0)
    user = np.arange(NUM_ROWS) % NUM_USERS
    arrays = {
        "label": (generator.random(NUM_ROWS) < 0.4).astype(np.float32),
        "user": user * 10**12 - 5,
        "request": -(user * 2 + np.arange(NUM_ROWS) // NUM_USERS % 2) * 10**9,
        "row_id": np.arange(NUM_ROWS) * 7,
    }
    records = np.zeros(NUM_ROWS, record_type(0, 0))
    for name, values in arrays.items():
        records[name] = values
    return Rows(layout=Layout(ids=(), dense=()), records=records, events={})


def model(noise, seed):
    """Logits that know the label, and so much noise."""
    generator = np.random.default_rng(seed)
    return (2 * rows()["label"] - 1 + generator.normal(0, noise, NUM_ROWS)).astype(np.float32)


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "log", tmp_path, evaluate={"draws": 200})


def measured(run, students, controls, teacher):
    judged = judged_rows(run, rows())
    drawn = draws_for(run, judged)
    logits = {"teacher": teacher}
    for arm, models in (("student", students), ("control", controls)):
        logits |= {f"{arm}-{number}": logit for number, logit in enumerate(models)}
    exact = {name: logit.astype(float) for name, logit in logits.items()}
    found = {name: measure(logit, judged, drawn.weights, exact["teacher"]) for name, logit in exact.items()}
    return found, drawn


def report(run, students, controls, teacher, shipped="student-0"):
    found, drawn = measured(run, students, controls, teacher)
    return report_on(run, found, drawn, shipped), found


def test_recovery_is_the_share_of_the_lead_with_an_interval_over_draws():
    gain, gap = np.array([0.03, 0.02, 0.04, 0.03]), np.array([0.04, 0.04, 0.05, 0.03])
    value, low, high = recovery(gain, gap)
    assert value == pytest.approx(0.03 / 0.04)
    shares = [0.02 / 0.04, 0.04 / 0.05, 0.03 / 0.03]
    assert (low, high) == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])))


@pytest.mark.parametrize("gap", [0.0, -0.01, np.nan])
def test_where_the_teacher_does_not_lead_there_is_nothing_to_recover(gap):
    assert recovery(np.array([0.01, 0.01]), np.array([gap, 0.02])) == [None, None, None]


def test_draws_in_which_the_teacher_does_not_lead_do_not_count():
    _, low, high = recovery(np.array([0.1, 0.1, 5.0]), np.array([0.2, 0.2, -0.1]))
    assert (low, high) == (0.5, 0.5)


def test_a_student_below_its_control_recovers_less_than_nothing():
    assert recovery(np.array([-0.1, -0.1]), np.array([0.2, 0.2]))[0] == -0.5


def test_a_difference_is_taken_draw_by_draw():
    one, other = {"auc": np.array([3.0, 1.0])}, {"auc": np.array([1.0, 2.0])}
    assert difference(one, other)["auc"].tolist() == [2.0, -1.0]


def test_draws_start_with_everyone_once_and_every_seed_once(run):
    drawn = draws_for(run, judged_rows(run, rows()))
    weights, seeds = drawn.weights, drawn.seeds
    assert weights.shape == (201, NUM_USERS)
    assert seeds.shape == (201, run.student.seeds)
    assert (weights[0] == 1).all()
    assert sorted(seeds[0]) == list(range(run.student.seeds))
    assert set(seeds.ravel()) == set(range(run.student.seeds))
    again = draws_for(run, judged_rows(run, rows()))
    assert (again.weights == weights).all()
    assert (again.seeds == seeds).all()


def test_an_arm_is_the_mean_of_the_seeds_that_each_draw_drew():
    values = [{"auc": np.array([0.1, 0.2, 0.3]) + n} for n in range(2)]
    seeds = np.array([[0, 1], [1, 1], [0, 0]])
    found = Bootstrap(weights=np.ones((3, 1)), seeds=seeds).over_seeds(values)["auc"]
    assert found == pytest.approx([0.1 + 0.5, 0.2 + 1, 0.3 + 0])


def test_the_report_says_what_was_planted(run):
    """Noise 1 in the teacher, 1.5 in the students, 3 in the controls."""
    teacher = model(1.0, 1)
    students, controls = [model(1.5, 2), model(1.5, 3)], [model(3.0, 4), model(3.0, 5)]
    found, drawn = report(run, students, controls, teacher, shipped="student-1")
    models = found["models"]
    assert set(models) == {"teacher", "student", "control", "shipped"}
    points = {name: models[name]["auc"][0] for name in models}
    assert points["teacher"] > points["student"] > points["control"]
    assert points["student"] == pytest.approx(np.mean([drawn[f"student-{n}"]["auc"][0] for n in (0, 1)]))
    assert models["shipped"]["auc"][0] == drawn["student-1"]["auc"][0]
    assert found["gain"]["auc"][0] == pytest.approx(points["student"] - points["control"])
    assert found["gain"]["auc"][1] > 0
    share = (points["student"] - points["control"]) / (points["teacher"] - points["control"])
    assert found["recovery"][0] == pytest.approx(share)
    assert found["recovery"][1] < share < found["recovery"][2]
    for name, (value, low, high) in models["student"].items():
        assert low <= high, name
        assert low - 0.05 < value < high + 0.05, name


def test_a_paired_difference_is_known_better_than_either_side(run):
    teacher = model(1.0, 1)
    student = [logit + np.float32(0.05) * model(1.0, 9) for logit in (teacher, teacher)]
    found, _ = report(run, student, [teacher, teacher], teacher)

    def width(value):
        return value[2] - value[1]

    assert width(found["gain"]["auc"]) < width(found["models"]["student"]["auc"]) / 5


def test_a_student_equal_to_its_control_gains_exactly_nothing(run):
    teacher, student = model(1.0, 1), [model(2.0, 2), model(2.0, 3)]
    found, _ = report(run, student, student, teacher)
    assert found["gain"]["auc"] == [0.0, 0.0, 0.0]
    assert found["recovery"] == [0.0, 0.0, 0.0]


def test_two_models_are_compared_on_the_same_rows(run):
    good, bad = model(1.0, 1), model(3.0, 2)
    found = compare(run, rows(), good, bad, ["auc", "gauc"])
    assert set(found) == {"auc", "gauc"}
    assert found["auc"][1] > 0
    back = compare(run, rows(), bad, good, ["auc"])
    assert back["auc"][0] == -found["auc"][0]
    assert compare(run, rows(), good, good, ["auc"])["auc"] == [0.0, 0.0, 0.0]


def test_requests_are_judged_as_the_config_says(run, tmp_path):
    by_request = judged_rows(run, rows())
    by_user = judged_rows(make_run(tmp_path / "log", tmp_path, evaluate={"ndcg_by": "user"}), rows())
    assert by_request.num_users == by_user.num_users == NUM_USERS
    assert len(np.unique(by_request.request)) == NUM_USERS * 2
    assert (by_user.request == by_user.user).all()
    assert set(by_request.user) == set(range(NUM_USERS))


@pytest.mark.parametrize("num_rows", [1, 10, 11, 25])
def test_a_window_is_scored_in_parts_in_its_order(monkeypatch, num_rows):
    monkeypatch.setattr(evaluate, "ROWS_PER_PASS", 10)
    sizes = []

    def logits(ids, dense):
        sizes.append(len(ids))
        return (ids[:, 0] * 2).astype(np.float32)

    class Window:
        def __len__(self):
            return num_rows

        def ids(self, index):
            return index[:, None]

        def dense(self, index):
            return np.zeros((len(index), 0), np.float32)

    assert bundle_logits(SimpleNamespace(logits=logits), Window()).tolist() == [2.0 * row for row in range(num_rows)]
    assert max(sizes) <= 10

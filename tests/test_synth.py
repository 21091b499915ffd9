"""The generated world: the same for the same seed, shaped like a log, and with a truth that is known and found."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import TINY, TINY_ROWS, read_log

from recdistill.cli.main import main
from recdistill.data.log.listing import open_log
from recdistill.data.synth import generate as synth_module
from recdistill.data.synth.files import read_truth
from recdistill.data.synth.generate import World, synth
from recdistill.data.synth.world import cells, plant, popular, relevance_of
from recdistill.files import damage
from recdistill.metrics.ranking import plain_auc
from recdistill.problems import BadInput

# Everything at once, so that each planted truth is found beside all the others.
BUSY = World(
    num_users=300, num_items=200, num_days=10, seed=11, flip=0.05, position_bias=0.4, newborn=0.1, base_drift=1.0
)
BUSY_ROWS = 120_000


@pytest.fixture(scope="module")
def log(tiny_log):
    return read_log(tiny_log)


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """(log with true_logit, what _truth.json says)."""
    folder = tmp_path_factory.mktemp("busy") / "log"
    synth(folder, BUSY_ROWS, BUSY, with_truth=True)
    return read_log(folder), read_truth(folder)


def sigmoid(logit):
    return 1 / (1 + np.exp(-logit.astype(float)))


def standard_error(probability):
    """Of the mean of coins thrown with these probabilities."""
    return np.sqrt((probability * (1 - probability)).sum()) / len(probability)


def test_it_holds_about_as_many_rows_as_asked_a_file_a_day(tiny_log, log, tmp_path):
    assert len(open_log(str(tiny_log)).files) == TINY.num_days
    assert TINY_ROWS <= len(log) < TINY_ROWS + TINY.num_days * TINY.candidates
    assert (
        synth(tmp_path / "log", 1, TINY) == open_log(str(tmp_path / "log")).num_rows == TINY.num_days * TINY.candidates
    )
    assert damage(tiny_log) == []


def test_the_same_seed_makes_the_same_log_to_the_byte(tiny_log, tmp_path):
    synth(tmp_path / "same", TINY_ROWS, TINY)
    synth(tmp_path / "other", TINY_ROWS, replace(TINY, seed=TINY.seed + 1))
    prints = [open_log(str(folder)).fingerprint for folder in (tiny_log, tmp_path / "same", tmp_path / "other")]
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_a_request_is_one_user_at_one_instant(log):
    requests = log.groupby("request_id")
    assert set(requests.size()) == {TINY.candidates}
    assert set(requests.user_id.nunique()) == set(requests.timestamp.nunique()) == {1}
    assert len(requests) == len(log) // TINY.candidates


def test_values_stay_inside_the_world(log):
    assert log.user_id.between(0, TINY.num_users - 1).all()
    assert log.item_id.between(0, TINY.num_items - 1).all()
    assert set(log.clicked) == {0, 1}
    assert 0.2 < log.clicked.mean() < 0.6
    assert (log.price > 0).all()
    assert set(log.categories.map(len)) == {2}
    assert not log.drop(columns="dwell_s").isna().any().any()
    assert "true_logit" not in log


def test_rows_come_in_time_each_day_in_its_own_file(tiny_log, log):
    assert log.timestamp.is_monotonic_increasing
    for path in sorted(tiny_log.rglob("*.parquet")):
        days = pq.read_table(path, columns=["timestamp"]).to_pandas().timestamp.dt.strftime("%Y-%m-%d")
        assert set(days) == {path.parent.name.removeprefix("day=")}


def test_an_item_and_a_user_keep_what_is_theirs(log):
    assert set(log.groupby("item_id").price.nunique()) == {1}
    assert set(log.groupby("item_id").categories.agg(lambda lists: len({tuple(x) for x in lists}))) == {1}
    assert set(log.groupby("user_id").country.nunique()) == {1}


def test_some_items_are_popular(log):
    counts = log.item_id.value_counts()
    assert counts.iloc[:10].sum() > 3 * counts.iloc[-10:].sum()


def test_clicks_of_the_past_tell_of_clicks_to_come(log):
    """An item's earlier click rate ranks its later clicks far better than chance: 4 standard errors at least."""
    half = len(log) // 2
    early, late = log.iloc[:half], log.iloc[half:]
    rate = early.groupby("item_id").clicked.mean()
    score = late.item_id.map(rate).fillna(early.clicked.mean()).to_numpy()
    up, down = late.clicked.sum(), (1 - late.clicked).sum()
    error = np.sqrt((1 / up + 1 / down) / 12)
    assert plain_auc(score, late.clicked.to_numpy()) > 0.5 + 4 * error


def test_less_noise_means_clearer_clicks(tmp_path):
    """With one user and one item all days alike, the click rate is of the truth; noise only blurs towards a half."""
    rates = []
    for noise in (0.0, 20.0):
        folder = tmp_path / str(noise)
        synth(folder, 4000, World(num_users=1, num_items=1, num_days=2, seed=5, noise=noise))
        rates.append(read_log(folder).clicked.mean())
    assert abs(rates[1] - 0.5) < abs(rates[0] - 0.5)


def test_the_click_rate_of_every_tenth_of_the_true_logits_is_the_one_they_promise(busy):
    log, _ = busy
    tenth = log.true_logit.rank(method="first") * 10 // (len(log) + 1)
    groups = list(log.groupby(tenth))
    assert len(groups) == 10
    for _, rows in groups:
        promised = sigmoid(rows.true_logit.to_numpy())
        assert abs(rows.clicked.mean() - promised.mean()) < 4 * standard_error(promised)


@pytest.mark.parametrize(("window", "first"), [("all_rows", 0), ("last_tenth", BUSY_ROWS * 9 // 10)])
def test_the_ceiling_is_what_the_true_logit_reaches_on_the_labels(busy, window, first):
    log, truth = busy
    rows, said = log.iloc[first:], truth[window]
    clicked, chance = rows.clicked.to_numpy(), sigmoid(rows.true_logit.to_numpy())
    assert (said["rows"], said["click_rate"]) == (len(rows), pytest.approx(clicked.mean()))
    assert said["ceiling"]["all"]["auc"] == pytest.approx(plain_auc(chance, clicked), abs=1e-6)
    loss = -np.where(clicked, np.log(chance), np.log(1 - chance)).mean()
    assert said["ceiling"]["all"]["log_loss"] == pytest.approx(loss, abs=1e-6)


def test_one_who_does_not_see_the_position_knows_the_liking_only(busy):
    log, truth = busy
    liked = (sigmoid(log.true_logit.to_numpy()) - BUSY.flip) * log.position**BUSY.position_bias
    without = truth["all_rows"]["ceiling"]["no_position"]
    assert without["auc"] == pytest.approx(plain_auc(liked.to_numpy().round(7), log.clicked.to_numpy()), abs=1e-4)
    assert without["auc"] < truth["all_rows"]["ceiling"]["all"]["auc"]
    chance = BUSY.flip + liked * (np.arange(1, BUSY.candidates + 1) ** -BUSY.position_bias).mean()
    assert without["log_loss"] == pytest.approx(-np.where(log.clicked, np.log(chance), np.log(1 - chance)).mean())


def test_the_probability_is_that_of_the_documented_formula():
    """The mean over the noise, by drawing it."""
    world = World(num_users=1, num_items=1, num_days=1, seed=0, noise=1.5, flip=0.1, position_bias=0.5)
    noise = 1.5 * np.random.default_rng(0).standard_normal(400_000)
    cell = cells(np.array([1.25], dtype=np.float32))[0]
    assert relevance_of(cell) == 1.25
    wanted = 0.1 + 0.8 * 4**-0.5 * sigmoid(1.25 + noise).mean()
    assert plant(world).probability[cell, 3] == pytest.approx(wanted, abs=0.002)


def test_items_are_examined_less_the_lower_they_stand(tmp_path):
    synth(tmp_path / "log", 200_000, replace(BUSY, flip=0.0, base_drift=0.0, position_bias=0.5))
    rates = read_log(tmp_path / "log").groupby("position").clicked.agg(["mean", "size"])
    assert list(rates.index) == list(range(1, BUSY.candidates + 1))
    wanted = rates["mean"].iloc[0] * rates.index.to_numpy() ** -0.5
    error = np.sqrt(wanted * (1 - wanted) / rates["size"])
    assert (np.abs(rates["mean"] - wanted) < 4 * np.sqrt(2) * error).all()


def test_no_item_is_shown_before_its_birth(busy):
    log, _ = busy
    birth = plant(BUSY).birth
    day = (log.timestamp - log.timestamp.min().normalize()).dt.days
    late = birth > 0
    assert late.sum() == BUSY.newborn * BUSY.num_items
    assert (day >= birth[log.item_id]).all()
    first_seen = day.groupby(log.item_id).min()
    assert (first_seen == birth[first_seen.index]).mean() > 0.9


def test_sessions_of_a_user_are_short_and_do_not_overlap(busy):
    log, _ = busy
    sessions = log.groupby("session_id").agg(
        user=("user_id", "first"),
        users=("user_id", "nunique"),
        requests=("request_id", "nunique"),
        start=("timestamp", "min"),
        end=("timestamp", "max"),
    )
    assert (sessions.users == 1).all()
    assert 2 < sessions.requests.mean() < 6
    assert (sessions.end - sessions.start).dt.total_seconds().max() < 1800
    ordered = sessions.sort_values(["user", "start"])
    same = (ordered.user == ordered.user.shift()).to_numpy()
    assert same.sum() > 1000
    assert (ordered.start > ordered.end.shift())[same].all()


def test_who_asks_says_nothing_of_when(busy):
    log, _ = busy
    requests = log.drop_duplicates("request_id")
    minute = requests.timestamp.dt.minute % 30 + requests.timestamp.dt.second / 60
    assert abs(minute.corr(requests.user_id)) < 4 / np.sqrt(requests.session_id.nunique())


def test_relevance_is_rounded_to_the_nearest_step():
    relevance = np.random.default_rng(0).uniform(-15, 15, 1000).astype(np.float32)
    assert np.abs(relevance_of(cells(relevance)) - relevance).max() <= 1 / 512 + 1e-6


def test_turned_labels_draw_the_click_rate_to_a_half_and_lower_the_ceiling(tmp_path):
    truths = []
    for flip in (0.0, 0.3):
        synth(tmp_path / str(flip), 100_000, replace(TINY, flip=flip))
        truths.append(read_truth(tmp_path / str(flip))["all_rows"])
    plain, turned = truths
    assert turned["click_rate"] == pytest.approx(0.3 + 0.4 * plain["click_rate"], abs=4 / np.sqrt(100_000))
    lead, turned_lead = (found["ceiling"]["all"]["auc"] - 0.5 for found in truths)
    assert 0.2 * lead < turned_lead < 0.6 * lead
    assert turned["ceiling"]["all"]["log_loss"] > plain["ceiling"]["all"]["log_loss"]


def test_the_base_rate_drifts(tmp_path):
    rates, overall = [], []
    for base_drift in (-2.0, 2.0):
        synth(tmp_path / str(base_drift), 24_000, replace(TINY, base_drift=base_drift))
        clicked = read_log(tmp_path / str(base_drift)).clicked
        rates.append(clicked.iloc[12_000:].mean() - clicked.iloc[:12_000].mean())
        overall.append(clicked.mean())
    assert rates[0] < -0.1
    assert rates[1] > 0.1
    assert abs(overall[1] - overall[0]) < 0.03  # nothing moves in the middle of the time


def test_who_clicked_stayed_the_longer_the_more_they_liked_it(tmp_path):
    synth(tmp_path / "log", 50_000, replace(TINY, noise=0.0, position_bias=0.0), with_truth=True)
    log = read_log(tmp_path / "log")
    assert (log.dwell_s.notna() == (log.clicked == 1)).all()
    clicked = log[log.clicked == 1]
    rest = np.log(clicked.dwell_s) - 3 - clicked.true_logit / 2
    assert abs(rest.mean()) < 4 * 0.8 / np.sqrt(len(rest))
    assert rest.std() == pytest.approx(0.8, abs=0.02)


def test_popularity_is_the_documented_one():
    draws = popular(np.random.default_rng(0).random(200_000), 50)
    counts = np.bincount(draws, minlength=50)
    wanted = len(draws) * np.diff(np.log(np.arange(51) + 10)) / np.log(6)
    assert (np.abs(counts - wanted) < 5 * np.sqrt(wanted)).all()


def test_the_size_of_chunks_and_files_changes_no_row(busy, tmp_path, monkeypatch):
    monkeypatch.setattr(synth_module, "_ROWS_PER_CHUNK", 150)  # less than a slot of 25 requests of 12 rows
    monkeypatch.setattr("recdistill.data.synth.files._ROWS_PER_FILE", 1000)
    synth(tmp_path / "log", BUSY_ROWS, BUSY, with_truth=True)
    assert len(open_log(str(tmp_path / "log")).files) >= 120
    log, truth = busy
    assert read_log(tmp_path / "log").equals(log)
    assert read_truth(tmp_path / "log") == truth


def test_all_that_is_out_of_range_is_told_at_once(tmp_path):
    with pytest.raises(BadInput) as caught:
        World(num_users=0, num_items=5, num_days=2, seed=-1, flip=0.5, newborn=float("nan"))
    words = ("num_users", "seed", "flip", "newborn")
    assert [line.split(": ")[1] for line in caught.value.problems] == list(words)
    with pytest.raises(BadInput, match="rows: wanted 1 or more, found 0"):
        synth(tmp_path / "log", 0, TINY)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(BadInput, match="wanted no folder, or a generated log"):
        synth(tmp_path / "mine", 1000, TINY)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_the_command_prints_the_truth_it_measured_and_prints_it_again(tmp_path, monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["recdistill", "synth", str(tmp_path / "log"), *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    status, _, err = call("--truth")
    assert (status, "wanted the truth of a generated log" in err) == (2, True)
    status, first, _ = call("--rows", "2000", "--days", "3", "--flip", "0.1")
    assert status == 0
    best = read_truth(tmp_path / "log")["last_tenth"]["ceiling"]["no_position"]["auc"]
    assert f"at best AUC {best:.4f}" in first
    status, again, _ = call("--truth")
    assert (status, again) == (0, first.partition("\n")[2])
    assert call("--wide", "20by13")[2].count("\n") == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    script = """if True:
        import resource, sys
        from pathlib import Path
        from recdistill.data.synth.generate import World, synth
        synth(Path(sys.argv[1]), int(sys.argv[2]), World(num_users=2000, num_items=500, num_days=20, seed=7))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    peaks = []
    for rows in ("1000000", "10000000"):
        command = [sys.executable, "-c", script, str(tmp_path / rows), rows]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < 1.1 * peaks[0]

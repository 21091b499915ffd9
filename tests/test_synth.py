"""The generated world: the same for the same seed, shaped like a log, and with a truth that can be learnt."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import TINY, TINY_ROWS, read_log

from recdistill.data.logs import open_log
from recdistill.data.synth import World, synth
from recdistill.files import damage
from recdistill.metrics import plain_auc


@pytest.fixture(scope="module")
def log(tiny_log):
    return read_log(tiny_log)


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
    assert not log.isna().any().any()


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

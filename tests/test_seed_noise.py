"""Superiority beyond seeds: identical ways of training are rarely called better, a large difference always is."""

import numpy as np
import pytest

from recdistill.metrics.bootstrap import interval, simultaneous
from recdistill.metrics.seed_noise import beyond_seeds

DRAWS = 200


def side(generator, seeds, seed_sd, user_sd, mean=0.0):
    """Draws [B + 1] of each seed: a seed's own luck, and the users' that every draw takes anew."""
    points = mean + generator.normal(0, np.hypot(seed_sd, user_sd), seeds)
    return [np.r_[point, point + generator.normal(0, user_sd, DRAWS)] for point in points]


def share_above_zero(seeds, seed_sd, user_sd, mean=0.0, repeats=400):
    generator = np.random.default_rng(0)
    found = 0
    for _ in range(repeats):
        ours, theirs = (side(generator, n, seed_sd, user_sd, m) for n, m in zip(seeds, (mean, 0.0), strict=True))
        found += interval(beyond_seeds(ours, theirs, generator)).low > 0
    return found / repeats


@pytest.mark.parametrize("seeds", [(3, 3), (2, 2), (3, 1)])
@pytest.mark.parametrize("noise", [(1.0, 0.0), (0.0, 1.0), (1.0, 0.5)])
def test_the_same_again_is_better_in_fewer_than_one_of_twenty(seeds, noise):
    assert share_above_zero(seeds, *noise) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize(("mean", "least", "most"), [(6.0, 0.95, 1.0), (-3.0, 0.0, 0.0)])
def test_what_is_six_standard_deviations_better_is_found_and_what_is_worse_never(mean, least, most):
    assert least <= share_above_zero((3, 3), 1.0, 0.3, mean=mean) <= most


def test_more_seeds_find_a_smaller_difference():
    few, many = (share_above_zero((n, n), 1.0, 0.2, mean=1.0, repeats=100) for n in (2, 40))
    assert few < 0.3
    assert many > 0.9


def test_without_luck_of_seeds_only_users_are_left():
    users = np.random.default_rng(1).normal(0, 1, DRAWS + 1)
    ours = [np.full(DRAWS + 1, 5.0) + users] * 2
    assert beyond_seeds(ours, [users, users], np.random.default_rng(0)) == pytest.approx(np.full(DRAWS + 1, 5.0))


def test_one_seed_on_either_side_says_nothing():
    found = beyond_seeds([np.ones(3)], [np.zeros(3)], np.random.default_rng(0))
    assert np.isnan(found).all()
    assert interval(found).to_json() == [None, None, None]


def test_of_many_intervals_each_is_wider_and_all_hold_at_once():
    draws = np.random.default_rng(2).normal(0, 1, 2001)
    one, many = simultaneous(draws, 1), simultaneous(draws, 20)
    assert one.value == many.value == draws[0]
    assert many.low < one.low < one.high < many.high
    misses = np.random.default_rng(3).normal(0, draws[1:].std(), (2000, 20))  # 20 slices without any difference
    assert (misses < many.low - many.value).any(axis=1).mean() == pytest.approx(0.025, abs=0.012)


def test_a_slice_without_a_value_has_no_interval():
    assert simultaneous(np.array([np.nan, 1.0, 2.0]), 1).to_json() == [None, None, None]
    assert simultaneous(np.array([1.0, np.nan, 2.0, 0.0]), 1).low < 1

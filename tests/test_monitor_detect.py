"""The alarm: it fires when a series changes to the worse, soon, and without a change no oftener than it says."""

import numpy as np
import pytest

from recdistill.monitor.detect import detect


def fired(values, harm="down", threshold=2000.0, errors=None):
    steps = detect(values, np.ones(len(values)) if errors is None else errors, harm, threshold)
    return [place for place, step in enumerate(steps) if step.fires]


def noise(num, seed):
    return np.random.default_rng(seed).normal(0, 1, num)


def test_a_drop_fires_within_days_and_a_rise_does_not_where_only_a_drop_harms():
    for seed in range(20):
        values = noise(60, seed)
        down = np.where(np.arange(60) < 40, values, values - 4)
        assert 40 <= min(place for place in fired(down) if place >= 40) <= 47
        assert fired(np.where(np.arange(60) < 40, values, values + 4)) == fired(values[:40])
        assert any(place >= 40 for place in fired(-down, "either"))


@pytest.mark.parametrize("harm", ["down", "up", "either"])
def test_without_a_change_it_fires_at_most_once_in_as_many_windows_as_the_threshold_on_average(harm):
    """Errors that vary five-fold, and windows that vary three times as much as their errors say."""
    first = []
    for seed in range(150):
        errors = np.random.default_rng([seed, 1]).uniform(0.5, 2.5, 200)
        found = fired(noise(200, seed) * errors * 3, harm, 40.0, errors)
        first.append(found[0] + 1 if found else 200)
    assert np.mean(first) >= 40  # cut at 200, so the mean is larger still
    within = np.mean(np.array(first) <= 10)
    assert within <= 10 / 40


def test_scores_are_standard_normal_whatever_the_level_and_the_spread_are():
    scores = []
    for seed in range(200):
        errors = np.random.default_rng([seed, 2]).uniform(0.5, 2.0, 12)
        steps = detect(0.7 + 0.02 * noise(12, seed) * errors, errors, "down", 1e9)
        assert [step.score is None for step in steps] == [True, True] + [False] * 10
        scores.append([step.score for step in steps[2:]])
    scores = np.array(scores)
    assert abs(scores.mean()) < 4 / np.sqrt(scores.size)
    assert abs(scores.std() - 1) < 0.06
    assert abs(np.corrcoef(scores[:, 3], scores[:, 7])[0, 1]) < 0.25


def test_units_do_not_matter():
    values, errors = noise(30, 3), np.random.default_rng(4).uniform(0.5, 2, 30)
    one, other = (detect(values * k + 5, errors * k, "either", 50.0) for k in (1.0, 1e-3))
    assert np.allclose([s.evidence for s in one], [s.evidence for s in other], rtol=1e-6)


def test_a_window_that_could_not_be_measured_changes_nothing():
    values, errors = list(noise(30, 5)), [1.0] * 30
    steps = detect(values, errors, "down", 100.0)
    values[10:10], errors[10:10] = [float("nan"), 1.0, 1.0], [1.0, 0.0, float("nan")]
    with_gaps = detect(values, errors, "down", 100.0)
    assert [step.score for step in with_gaps[10:13]] == [None] * 3
    assert [s.evidence for s in with_gaps[:10] + with_gaps[13:]] == [s.evidence for s in steps]


def test_after_an_alarm_it_begins_anew_and_a_lasting_change_is_told_once():
    values = np.concatenate([noise(30, 6), noise(30, 7) - 6])
    assert len([place for place in fired(values) if place >= 30]) == 1


def test_windows_that_are_all_alike_are_no_change():
    assert fired([0.7] * 50) == []
    assert fired([0.7] * 10 + [0.6]) == [10]


def test_no_windows_have_no_steps():
    assert detect([], [], "down", 10.0) == []

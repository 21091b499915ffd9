"""Scales against numpy: standardised, of the logarithm, by rank; the same however the numbers came in."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.scale import Moments, Scale, quantiles, transformed

numbers = st.lists(st.floats(-1e6, 1e6) | st.just(np.nan) | st.integers(-3, 3).map(float), max_size=30).map(np.array)
chunks = st.lists(numbers, max_size=5)


def together(parts):
    whole = np.concatenate([np.empty(0), *parts])
    return whole[~np.isnan(whole)]


def moments(parts):
    found = Moments()
    for part in parts:
        found.add(part)
    return found


@given(chunks)
def test_moments_of_any_chunks_are_those_of_the_whole(parts):
    whole, scale = together(parts), moments(parts).scale("x", "standardise")
    assert moments(parts).count == len(whole)
    if not len(whole):
        assert (scale.mean, scale.deviation) == (0.0, 1.0)
        return
    size = np.abs(whole).max()
    assert scale.mean == pytest.approx(whole.mean(), abs=1e-12 * size)
    if whole.min() < whole.max() and whole.std() > 1e-6 * size:
        assert scale.deviation == pytest.approx(whole.std(), rel=1e-6)


@pytest.mark.parametrize("value", [0.1, 1e-30, 3.3e15, -0.7, 0.0])
@pytest.mark.parametrize("sizes", [[3], [3, 7, 1], [1] * 10, [1001, 3]])
def test_a_constant_column_is_0_and_another_value_is_not_blown_up(value, sizes):
    """The mean of three times 0.1 is 0.10000000000000002, so that their squares do not add up to 0."""
    scale = moments([np.full(size, value) for size in sizes]).scale("x", "standardise")
    assert scale.deviation == 1.0
    found = scale(np.array([value, value + 1.0]))
    assert found == pytest.approx([0.0, 1.0], abs=2e-16 * abs(value) + 1e-9)


def test_moments_keep_small_differences_of_large_numbers():
    base = 1.7e15
    parts = np.array_split(base + np.tile([0.0, 2.0], 5000), 13)
    scale = moments(parts).scale("x", "standardise")
    assert scale.mean - base == pytest.approx(1.0, abs=0.5)
    assert scale.deviation == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("transform", ["standardise", "log1p"])
@given(values=st.lists(st.floats(0, 1e9) | st.just(np.nan), min_size=1, max_size=30).map(np.array))
def test_scaled_numbers_are_standardised_and_null_is_the_middle(transform, values):
    kept = values[~np.isnan(values)]
    scale = moments([transformed(values, transform)]).scale("x", transform)
    found = scale(values)
    assert found.dtype == np.float32
    assert (found[np.isnan(values)] == 0).all()
    plain = np.log1p(kept) if transform == "log1p" else kept
    assert np.array_equal(found[~np.isnan(values)], ((plain - scale.mean) / scale.deviation).astype(np.float32))
    if len(kept) and plain.std() > 1e-6 * np.abs(plain).max():
        assert abs(found[~np.isnan(values)].astype(np.float64).mean()) < 1e-3
        assert found[~np.isnan(values)].astype(np.float64).std() == pytest.approx(1.0, rel=1e-3)


def test_a_scale_is_worked_out_by_hand():
    log = Scale(column="x", transform="log1p", mean=2.0, deviation=4.0)
    assert log(np.array([np.e**10 - 1, 0.0, np.nan])) == pytest.approx([(10 - 2) / 4, -2 / 4, 0.0])
    assert Scale(column="x", transform="standardise", mean=3.0, deviation=2.0)(np.array([8.0])) == pytest.approx([2.5])


def test_the_numbers_that_are_given_stay_as_they_are():
    values = np.array([1.0, np.nan, 5.0])
    for transform in ("standardise", "log1p", "rank"):
        Scale(column="x", transform=transform, edges=(2.0,))(values)
        moments([values])
        assert np.array_equal(values, [1.0, np.nan, 5.0], equal_nan=True)


@given(st.lists(st.floats(-9, 9), unique=True, max_size=8).map(sorted), st.lists(st.floats(-10, 10), max_size=9))
def test_a_rank_counts_the_edges_up_to_a_number_from_minus_1_to_1(edges, values):
    scale = Scale(column="x", transform="rank", edges=tuple(edges))
    found = scale(np.array(values, dtype=np.float64))
    share = [sum(edge <= value for edge in edges) / max(len(edges), 1) for value in values]
    assert found == pytest.approx([2 * one - 1 for one in share], abs=1e-6)
    assert scale(np.array([np.nan]))[0] == 0.0


def test_ranks_of_the_train_window_are_spread_evenly():
    values = np.random.default_rng(0).lognormal(size=20_000)
    found = Scale(column="x", transform="rank", edges=quantiles([values], 100))(values)
    assert found.min() == -1.0
    assert found.max() == 1.0
    assert abs(found.mean()) < 0.01
    assert found.var() == pytest.approx(1 / 3, rel=0.05)
    assert (np.diff(found[np.argsort(values)]) >= 0).all()


@given(chunks, st.integers(2, 20))
def test_quantiles_are_those_of_numpy_each_once(parts, num_bins):
    whole = together(parts)
    found = quantiles(parts, num_bins)
    if not len(whole):
        assert found == ()
        return
    assert list(found) == sorted(set(np.quantile(whole, np.arange(1, num_bins) / num_bins).tolist()))
    assert all(type(edge) is float for edge in found)


def test_quantiles_cut_into_bins_of_equal_size():
    edges = quantiles([np.random.default_rng(1).permutation(1000.0 * np.arange(1000))], 8)
    assert np.bincount(np.searchsorted(edges, 1000.0 * np.arange(1000))).tolist() == [125] * 8


@pytest.mark.parametrize(
    "scale",
    [
        Scale(column="x", transform="log1p", mean=0.1, deviation=1 / 3),
        Scale(column="x", transform="rank", edges=(0.1, 7.0)),
    ],
)
def test_a_scale_survives_json(scale):
    assert Scale.from_json(json.loads(json.dumps(scale.to_json()))) == scale

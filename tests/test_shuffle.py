"""Permutations without memory: bijections, one per key, near enough to uniform, no neighbours left together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.shuffle import Permutation


def whole(num, key):
    return Permutation(num=num, key=key)(np.arange(num))


def far(chi_square, degrees):
    """Deviations of a chi-square statistic from its expectation."""
    return (chi_square - degrees) / np.sqrt(2 * degrees)


def test_every_small_number_of_rows_is_permuted():
    for num in [*range(201), *range(1000, 1100, 9), 1024, 1025, 2047, 2048, 2049]:
        for key in (0, 1, 2**64 - 1):
            assert sorted(whole(num, key).tolist()) == list(range(num)), (num, key)


@pytest.mark.parametrize("num", [1_000_003, 999_983, 2**20, 2**20 + 1, 1000**2 + 1])
def test_many_rows_are_permuted(num):
    seen = np.zeros(num, dtype=bool)
    seen[whole(num, 77)] = True
    assert seen.all()


@given(st.integers(0, 10**12 + 39), st.integers(0, 2**64 - 1))
def test_places_of_very_many_rows_stay_in_range_and_apart(first, key):
    num = 10**12 + 39
    found = Permutation(num=num, key=key)(np.minimum(first, num - 1000) + np.arange(1000))
    assert found.dtype == np.int64
    assert ((found >= 0) & (found < num)).all()
    assert len(np.unique(found)) == 1000


@given(st.integers(1, 500) | st.integers(1000, 3000), st.integers(0, 2**64 - 1), st.data())
def test_a_place_has_its_row_whatever_is_asked_beside_it(num, key, data):
    places = np.array(data.draw(st.lists(st.integers(0, num - 1), max_size=20)), dtype=np.int64)
    before = places.copy()
    assert np.array_equal(Permutation(num=num, key=key)(places), whole(num, key)[places])
    assert np.array_equal(places, before)


@pytest.mark.parametrize("num", [1000, 1025, 1900])
def test_keys_give_different_orders_that_have_no_more_in_common_than_chance(num):
    orders = [whole(num, key) for key in [*range(20), 2**32, 2**63]]
    same = [(one == other).sum() for n, one in enumerate(orders) for other in orders[:n]]
    assert len(same) == 22 * 21 // 2
    assert max(same) < 10
    assert abs(np.mean(same) - 1) < 0.3


# Few rows are permuted in one way, more in another, and very many in wider words.
NUMS = [10, 1000, 1040, 2**20, 10**6, 10**12]


@pytest.mark.parametrize("num", NUMS)
def test_every_row_comes_to_a_place_equally_often(num):
    places = np.array([0, 1, num // 2, num - 1])
    rows = np.array([Permutation(num=num, key=key)(places) for key in range(2000)])
    for found in (*(rows * 10 // num).T, *(rows % 10).T):
        expected = len(rows) / 10
        assert abs(far(((np.bincount(found, minlength=10) - expected) ** 2 / expected).sum(), 9)) < 4


@pytest.mark.parametrize("num", NUMS)
def test_where_a_row_goes_says_nothing_of_the_next(num):
    pairs = np.array([Permutation(num=num, key=key)(np.array([0, 1])) for key in range(3000)])
    assert (pairs[:, 0] != pairs[:, 1]).all()
    for parts in (pairs * 5 // num, pairs % 5):
        counts = np.bincount(parts[:, 0] * 5 + parts[:, 1], minlength=25)
        expected = np.full((5, 5), len(pairs) / 25)
        if num == 10:  # two of ten rows: a row's own part has one left of two
            expected = np.where(np.eye(5, dtype=bool), len(pairs) / 5 / 9, len(pairs) / 5 * 2 / 9)
        assert abs(far(((counts - expected.ravel()) ** 2 / expected.ravel()).sum(), 24)) < 4


@pytest.mark.parametrize("num", [100_000, 99_991])
@pytest.mark.parametrize("key", [0, 12345])
def test_consecutive_places_do_not_stay_neighbours(num, key):
    order = whole(num, key)
    gap = np.abs(np.diff(order))
    assert (gap == 1).sum() < 2 + 6 * np.sqrt(2)  # 2 are expected, by chance
    assert gap.mean() == pytest.approx(num / 3, rel=0.02)
    for step in (1, 2, 256, 512):  # 256 places share the half of the bits that changes least
        assert abs(np.corrcoef(order[step:], order[:-step])[0, 1]) < 5 / np.sqrt(num), step
    assert abs(np.corrcoef(order, np.arange(num))[0, 1]) < 5 / np.sqrt(num)


def test_every_batch_is_drawn_from_all_over():
    order = whole(64_000, 3).reshape(100, 640)
    counts = np.stack([np.bincount(batch // 1000, minlength=64) for batch in order])
    assert abs(far(((counts - 10) ** 2 / 10).sum(), 99 * 63)) < 5

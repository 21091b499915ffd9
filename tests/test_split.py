"""Windows in time: in order, together everything, never sharing an instant, and refused where one would be empty."""

import numpy as np
import pytest
from conftest import the_line
from hypothesis import given
from hypothesis import strategies as st

from recdistill.config_data import Split
from recdistill.data.split import SPLITS, Windows, windows
from recdistill.problems import BadInput

SHARES = Split(train=0.6, valid=0.2)


def problems(times, split=SHARES):
    with pytest.raises(BadInput) as caught:
        windows(np.array(times, dtype=np.int64), split)
    return caught.value.problems


def test_shares_of_distinct_instants_are_exact():
    cut = windows(np.arange(100)[::-1] * 7, SHARES)
    assert cut == Windows(start=0, valid=60 * 7, test=80 * 7, end=99 * 7 + 1)
    assert np.bincount(cut.which(np.arange(100) * 7)).tolist() == [60, 20, 20]


@given(
    st.lists(st.integers(-(2**60), 2**60), min_size=1, max_size=60),
    st.sampled_from([(0.6, 0.2), (0.8, 0.1), (0.1, 0.1)]),
)
def test_windows_part_the_rows_in_order_or_are_refused(times, shares):
    time = np.array(times, dtype=np.int64)
    try:
        cut = windows(time, Split(train=shares[0], valid=shares[1]))
    except BadInput:
        cut = None
    assert cut or len(set(times)) < max(12, len(times))  # enough rows of distinct instants always do
    if not cut:
        return
    which = cut.which(time)
    assert set(which.tolist()) == {0, 1, 2}
    for earlier in (0, 1):
        assert time[which == earlier].max() < time[which == earlier + 1].min()
    assert cut.start == time.min()
    assert cut.end == time.max() + 1
    for place, (low, high) in enumerate([(cut.start, cut.valid), (cut.valid, cut.test), (cut.test, cut.end)]):
        assert ((time[which == place] >= low) & (time[which == place] < high)).all()


def test_rows_of_one_instant_are_never_parted():
    """The 61st row in time is one of the instant 2, the 81st one of the instant 4; both windows start before it."""
    time = np.repeat([1, 2, 3, 4], [50, 25, 5, 20])
    cut = windows(time, SHARES)
    assert cut == Windows(start=1, valid=2, test=4, end=5)
    assert np.bincount(cut.which(time)).tolist() == [50, 25 + 5, 20]


def test_no_rows_are_told():
    (line,) = problems([])
    the_line([line], "data window", "found none", "data.start")


@pytest.mark.parametrize(
    ("times", "name"), [([5] * 9, "train"), ([1] * 7 + [2, 3], "train"), ([1, 2, 3, 3, 3, 3, 3, 3], "valid")]
)
def test_an_empty_window_is_named(times, name):
    (line,) = problems(times, Split(train=0.3, valid=0.4))
    the_line([line], f"data.split: {name} window", "wanted rows", "one instant")


def test_a_few_rows_are_enough_if_their_instants_differ():
    assert windows(np.array([3, 1, 2]), Split(train=0.34, valid=0.33)) == Windows(start=1, valid=2, test=3, end=4)


def test_windows_are_json_and_named():
    assert SPLITS == ("train", "valid", "test")
    assert windows(np.arange(10), SHARES).to_json() == {"start": 0, "valid": 6, "test": 8, "end": 10}


@pytest.mark.parametrize("train", [0.29, 0.57, 0.58])
def test_shares_that_floats_cannot_hold_are_exact_too(train):
    """100 * 0.29 is 28.999999999999996."""
    assert windows(np.arange(100), Split(train=train, valid=0.2)).valid == round(100 * train)

"""Windows in time: in order, together everything, never sharing an instant, and refused where one would be empty."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from conftest import the_line
from hypothesis import given
from hypothesis import strategies as st

from recdistill.config.data import Split
from recdistill.data import split as module
from recdistill.data.split import NOWHERE, SPLITS, Windows, at_rank, windows
from recdistill.problems import BadInput

SHARES = Split(train=0.6, valid=0.2)
DAY = 24 * 3600 * 10**6
some_times = st.lists(st.integers(-(2**60), 2**60) | st.integers(-3, 3), min_size=1, max_size=60)


def of(times, parts=3):
    """The times in a few parts, some of them empty, as often as asked for."""
    pieces = np.array_split(np.array(times, dtype=np.int64), parts)
    return lambda: iter(pieces)


def problems(times, split=SHARES):
    with pytest.raises(BadInput) as caught:
        windows(of(times), split)
    return caught.value.problems


def test_shares_of_distinct_instants_are_exact():
    cut = windows(of(np.arange(100)[::-1] * 7), SHARES)
    assert cut == Windows(start=0, valid=60 * 7, test=80 * 7, end=99 * 7 + 1)
    assert np.bincount(cut.which(np.arange(100) * 7)).tolist() == [60, 20, 20]


@given(some_times, st.sampled_from([(0.6, 0.2), (0.8, 0.1), (0.1, 0.1)]), st.integers(1, 9))
def test_windows_part_the_rows_in_order_or_are_refused(times, shares, parts):
    time = np.array(times, dtype=np.int64)
    try:
        cut = windows(of(times, parts), Split(train=shares[0], valid=shares[1]))
    except BadInput:
        cut = None
    assert cut or len(set(times)) < max(12, len(times))  # enough rows of distinct instants always do
    if not cut:
        return
    which = cut.which(time)
    assert set(which.tolist()) == {0, 1, 2}
    for earlier in (0, 1):
        assert time[which == earlier].max() < time[which == earlier + 1].min()
    assert (cut.start, cut.end) == (time.min(), time.max() + 1)
    for place, (low, high) in enumerate(pairwise((cut.start, cut.valid, cut.test, cut.end))):
        assert ((time[which == place] >= low) & (time[which == place] < high)).all()


def test_rows_of_one_instant_are_never_parted():
    """The 61st row in time is one of the instant 2, the 81st one of the instant 4; both windows start before it."""
    time = np.repeat([1, 2, 3, 4], [50, 25, 5, 20])
    cut = windows(of(time), SHARES)
    assert cut == Windows(start=1, valid=2, test=4, end=5)
    assert np.bincount(cut.which(time)).tolist() == [50, 25 + 5, 20]


def test_no_rows_are_told():
    (line,) = problems([])
    the_line([line], "data window", "found none", "data.start")


@pytest.mark.parametrize(
    ("times", "name"),
    [([5] * 9, "train"), ([5], "train"), ([1] * 7 + [2, 3], "train"), ([1, 2, 3, 3, 3, 3, 3], "valid")],
)
def test_an_empty_window_is_named(times, name):
    (line,) = problems(times, Split(train=0.3, valid=0.4))
    the_line([line], f"data.split: {name} window", "wanted rows", "one instant")


def test_shares_next_to_1_leave_a_test_window_or_are_refused():
    the_line(problems([5], Split(train=1 - 1e-9, valid=1e-10)), "train window")
    the_line(problems([5, 6, 7], Split(train=1 - 1e-9, valid=1e-10)), "valid window")


def test_a_few_rows_are_enough_if_their_instants_differ():
    assert windows(of([3, 1, 2]), Split(train=0.34, valid=0.33)) == Windows(start=1, valid=2, test=3, end=4)


@pytest.mark.parametrize("train", [0.29, 0.57, 0.58])
def test_shares_that_floats_cannot_hold_are_exact_too(train):
    """100 * 0.29 is 28.999999999999996."""
    assert windows(of(np.arange(100)), Split(train=train, valid=0.2)).valid == round(100 * train)


def test_which_is_worked_out_by_hand():
    cut = Windows(start=0, valid=10, test=20, end=30, embargo=3)
    expected = {-1: -1, 0: 0, 6: 0, 7: -1, 9: -1, 10: 1, 16: 1, 17: -1, 19: -1, 20: 2, 27: 2, 29: 2, 30: -1, 99: -1}
    assert cut.which(np.array(list(expected))).tolist() == list(expected.values())
    assert NOWHERE == -1
    assert cut.which(np.empty(0, dtype=np.int64)).tolist() == []


@given(st.lists(st.integers(0, 60), unique=True, min_size=4, max_size=4).map(sorted), st.integers(0, 20))
def test_which_is_what_a_plain_loop_finds(ends, embargo):
    start, valid, test, end = ends
    cut = Windows(start=start, valid=valid, test=test, end=end, embargo=embargo)

    def one(at):
        if not start <= at < end or valid - embargo <= at < valid or test - embargo <= at < test:
            return NOWHERE
        return 0 if at < valid else 1 if at < test else 2

    assert cut.which(np.arange(-5, 70)).tolist() == [one(at) for at in range(-5, 70)]


def at(day, hour=0):
    return datetime(2024, 1, 1, hour, tzinfo=UTC) + timedelta(days=day)


def us(when):
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


TIMES = [us(at(0)) + hour * DAY // 24 + 1 for hour in range(24 * 30)]  # 30 days, a row an hour


def explicit(**settings):
    return Split(valid_from=at(20), test_from=at(25), **settings)


def test_windows_begin_at_the_instants_that_are_given():
    cut = windows(of(TIMES), explicit())
    assert cut == Windows(start=TIMES[0], valid=us(at(20)), test=us(at(25)), end=TIMES[-1] + 1)
    assert np.bincount(cut.which(np.array(TIMES))).tolist() == [20 * 24, 5 * 24, 5 * 24]


def test_instants_are_exact_to_the_microsecond_and_of_their_zone():
    moment = datetime(2024, 1, 20, 23, 59, 59, 999_999, tzinfo=UTC)
    elsewhere = moment.astimezone(datetime.fromisoformat("2024-01-01T00:00+09:00").tzinfo)
    cut = windows(of(TIMES), Split(valid_from=elsewhere, test_from=moment + timedelta(microseconds=1)))
    assert (cut.valid, cut.test) == (us(moment), us(moment) + 1)


def test_until_ends_the_test_window_where_there_are_rows_after_it():
    assert windows(of(TIMES), explicit(until=at(27))).end == us(at(27))
    assert windows(of(TIMES), explicit(until=at(300))).end == TIMES[-1] + 1


def test_an_embargo_takes_the_end_of_train_and_of_valid():
    cut = windows(of(TIMES), explicit(embargo=timedelta(hours=36)))
    assert cut.embargo == 36 * 3600 * 10**6
    which = cut.which(np.array(TIMES))
    assert np.bincount(which + 1).tolist() == [36 + 36, 20 * 24 - 36, 5 * 24 - 36, 5 * 24]


def test_the_test_window_may_be_shorter_than_the_embargo():
    cut = windows(of(TIMES), Split(valid_from=at(20), test_from=at(29), embargo=timedelta(days=2)))
    assert np.bincount(cut.which(np.array(TIMES)) + 1).tolist() == [4 * 24, 18 * 24, 7 * 24, 24]


def test_back_test_windows_lie_one_step_after_the_other():
    every, cuts = timedelta(days=5), []
    for back in range(4):
        cut = windows(of(TIMES), explicit(until=at(30), every=every, back=back, embargo=timedelta(hours=1)))
        assert cut == Windows(
            start=TIMES[0],
            valid=us(at(20) - back * every),
            test=us(at(25) - back * every),
            end=min(TIMES[-1] + 1, us(at(30) - back * every)),
            embargo=DAY // 24,
        )
        cuts.append(cut)
    for later, earlier in pairwise(cuts):
        assert earlier.end == later.test
    the_line(problems(TIMES, explicit(until=at(30), every=every, back=4)), "data.split: train window")


@pytest.mark.parametrize(
    ("split", "name"),
    [
        (Split(valid_from=at(0), test_from=at(9)), "train"),
        (Split(valid_from=at(-9), test_from=at(9)), "train"),
        (Split(valid_from=at(9), test_from=at(30)), "test"),
        (Split(valid_from=at(2), test_from=at(9), embargo=timedelta(days=2)), "train"),
        (Split(valid_from=at(9), test_from=at(11), embargo=timedelta(days=2)), "valid"),
        (Split(valid_from=at(31), test_from=at(35), until=at(40)), "test"),
    ],
)
def test_instants_that_leave_a_window_empty_are_refused(split, name):
    the_line(problems(TIMES, split), f"data.split: {name} window", "other windows")


def test_rows_before_train_from_are_in_no_window():
    edges = {"valid_from": at(20), "test_from": at(25)}
    cut = windows(of(TIMES), Split(train_from=at(12), **edges))
    found = cut.which(np.array([us(at(day)) for day in (1, 11, 12, 19, 20, 25)]))
    assert found.tolist() == [-1, -1, 0, 0, 1, 2]
    assert windows(of(TIMES[24:]), Split(train_from=at(0), **edges)).start == TIMES[24]
    with pytest.raises(ValueError, match="wanted train_from < valid_from < test_from < until"):
        Split(train_from=at(20), **edges)
    with pytest.raises(ValueError, match="wanted valid_from and test_from beside train_from"):
        Split(train_from=at(20))


def test_windows_are_json_and_named():
    assert SPLITS == ("train", "valid", "test")
    assert windows(of(range(10)), SHARES).to_json() == {"start": 0, "valid": 6, "test": 8, "end": 10, "embargo": 0}


@pytest.mark.parametrize(("held", "num_bins"), [(4_000_000, 65_536), (5, 2), (1, 3), (10, 100)])
@given(times=some_times, parts=st.integers(1, 5), data=st.data())
def test_the_time_at_a_rank_is_that_of_sorted_times(held, num_bins, times, parts, data):
    rank = data.draw(st.integers(0, len(times) - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_HELD", held)
        patch.setattr(module, "_BINS", num_bins)
        assert at_rank(of(times, parts), rank) == sorted(times)[rank]


def test_no_more_times_than_may_be_are_held_even_of_one_instant(monkeypatch):
    monkeypatch.setattr(module, "_HELD", 10)
    monkeypatch.setattr(module, "_BINS", 4)
    largest = []
    monkeypatch.setattr(np, "partition", lambda held, rank: largest.append(len(held)) or np.sort(held))
    for times in ([7] * 1000, [*range(500), *[250] * 500], range(1000)):
        assert at_rank(of(times), 400) == sorted(times)[400]
    assert max(largest) <= 10

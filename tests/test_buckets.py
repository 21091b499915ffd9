"""Sorting through buckets on disk is sorting; what is known before an instant is what a plain loop finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data import buckets as module
from recdistill.data.buckets import Buckets, groups, known_before

FIELDS = [("key", "<i8"), ("time", "<i8"), ("slot", "<i4"), ("share", "<f4")]


def some_rows(num, seed=0):
    generator = np.random.default_rng(seed)
    rows = np.empty(num, dtype=FIELDS)
    rows["key"] = generator.integers(-5, 6, num) * generator.choice([1, 2**60], num)
    rows["time"] = generator.integers(-4, 5, num)
    rows["slot"] = np.arange(num)
    rows["share"] = generator.random(num)
    return rows


def fill(folder, rows, num_rows, piece=17):
    found = Buckets(folder, FIELDS, num_rows)
    for first in range(0, len(rows), piece):
        part = rows[first : first + piece]
        found.add("key", {name: part[name] for name, _ in FIELDS})
    return found


@pytest.mark.parametrize("size", [10**6, 100, 7])
@pytest.mark.parametrize("by", [["time", "key"], ["slot", "time", "key"], ["key"]])
def test_buckets_in_turn_are_all_rows_in_order(tmp_path, monkeypatch, size, by):
    monkeypatch.setattr(module, "ROWS_PER_BUCKET", size)
    rows = some_rows(500)
    buckets = fill(tmp_path, rows, len(rows))
    assert buckets.num == -(-500 // size)
    found = list(buckets.sorted(by))
    assert len(found) == buckets.num
    expected = rows[np.lexsort([rows[name] for name in by])]  # rows that are equal in `by` stay in their order
    assert len(np.unique(rows["key"])) > 10
    for key in np.unique(rows["key"]):
        inside = [bucket[bucket["key"] == key] for bucket in found if (bucket["key"] == key).any()]
        assert len(inside) == 1, "the rows of a key are in one bucket"
        assert (inside[0] == expected[expected["key"] == key]).all()
    for bucket in found:
        assert (bucket == bucket[np.lexsort([bucket[name] for name in by])]).all()
    assert sum(map(len, found)) == len(rows)


def test_buckets_are_about_equally_full(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS_PER_BUCKET", 1000)
    rows = some_rows(10_000)
    rows["key"] = np.arange(10_000) * 64  # as ids of one shard may be
    sizes = [len(bucket) for bucket in fill(tmp_path, rows, 10_000, piece=999).sorted(["key"])]
    assert len(sizes) == 10
    assert sum(sizes) == 10_000
    assert max(abs(size - 1000) for size in sizes) < 5 * np.sqrt(1000)


@pytest.mark.parametrize("announced", [0, 20])
def test_no_rows_are_empty_buckets(tmp_path, monkeypatch, announced):
    monkeypatch.setattr(module, "ROWS_PER_BUCKET", 10)
    found = list(fill(tmp_path, some_rows(0), announced).sorted(["key"]))
    assert [len(bucket) for bucket in found] == [0] * max(1, announced // 10)


def test_files_go_as_their_buckets_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS_PER_BUCKET", 30)
    buckets = fill(tmp_path, some_rows(90), 90)
    assert len(list(tmp_path.iterdir())) == 3
    for left, _ in zip([3, 2, 1], buckets.sorted(["key"]), strict=True):
        assert len(list(tmp_path.iterdir())) == left
    assert not list(tmp_path.iterdir())


sorted_rows = st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), max_size=30).map(sorted)


@given(sorted_rows)
def test_groups_begin_where_their_key_first_stands(rows):
    key = [key for key, _ in rows]
    assert groups(np.array(key, dtype=np.int64)).tolist() == [key.index(own) for own in key]


@given(sorted_rows, st.integers(0, 4))
def test_what_is_known_before_is_what_a_loop_finds(rows, delay):
    key, time = (np.array([row[place] for row in rows], dtype=np.int64) for place in (0, 1))
    start = groups(key)
    end = known_before(start, time, time - delay)
    for row, (own, at) in enumerate(rows):
        past = [n for n, (other, then) in enumerate(rows) if other == own and then < at - delay]
        assert list(range(start[row], end[row])) == past


@given(sorted_rows, st.data())
def test_each_row_may_have_a_limit_and_a_start_of_its_own(rows, data):
    key, time = (np.array([row[place] for row in rows], dtype=np.int64) for place in (0, 1))
    delays = st.lists(st.integers(0, 9), min_size=len(rows), max_size=len(rows))
    until = time - np.array(data.draw(delays), dtype=np.int64)
    first = groups(key)
    later = np.array([data.draw(st.integers(int(low), row)) for row, low in enumerate(first)], dtype=np.int64)
    before = later.copy()
    found = known_before(later, time, until)
    assert np.array_equal(later, before)
    for row in range(len(rows)):
        known = [n for n in range(later[row], row) if time[n] < until[row]]
        assert found[row] == later[row] + len(known)

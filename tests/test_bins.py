"""Bins of every feature: what falls where, that order and chunks do not matter, that a sample is the same rows."""

import dataclasses

import numpy as np
import pytest

from recdistill.data.store import Rows, record_type
from recdistill.data.watch import bins
from recdistill.data.watch.bins import FIRST_BIN, MISSING, UNKNOWN, count, cut, sample
from recdistill.types import IdFeature, Layout

ITEM = IdFeature(name="item", table="item", start=0, width=1, num_rows=40, kind="single")
TAGS = IdFeature(name="tags", table="tags", start=1, width=3, num_rows=9, kind="bag")
PAST = IdFeature(name="history.item", table="item", start=4, width=5, num_rows=40, kind="history")
LAYOUT = Layout(ids=(ITEM, TAGS, PAST), dense=("price",))


def window(item, *, tags=None, past=None, price=None, label=None):
    """Rows numbered from 0. past: a list of item ids per row, oldest first."""
    records = np.zeros(len(item), record_type(4, 1))
    records["row_id"] = np.arange(len(item))
    records["label"] = 0 if label is None else label
    records["ids"][:, 0] = item
    records["ids"][:, 1:] = 0 if tags is None else tags
    records["dense"][:, 0] = 1 if price is None else price
    past = past or [[]] * len(item)
    ends = np.cumsum([len(events) for events in past], dtype=np.int64)
    records["past"] = np.stack([ends - [len(events) for events in past], ends], axis=1)
    events = {"history.item": np.array([one for events in past for one in events], dtype=np.int32)}
    return Rows(layout=LAYOUT, records=records, events=events)


def counted(rows, train=None, **options):
    """Feature -> [size] observations of the whole window, by bins cut on `train`."""
    made = cut(train or rows)
    found = count(rows, made, np.zeros_like, 1, **options)
    return {one.name: total[0].tolist() for one, total in zip(made, found.bins, strict=True)}


def test_the_twenty_most_frequent_ids_have_bins_and_the_others_share_one():
    train = window(np.repeat(np.arange(2, 27), np.r_[30 - np.arange(20), 5, 4, 3, 2, 1]))
    assert counted(train)["item"] == [0, 0, *(30 - np.arange(20)), 5 + 4 + 3 + 2 + 1]
    later = window([0, 0, 1, 1, 1, 2, 21, 21, 22, 39])
    assert counted(later, train)["item"] == [2, 3, 1, *[0] * 18, 2, 2]


def test_a_bag_is_seen_once_for_each_value_and_an_empty_one_as_absent():
    rows = window([2, 2, 2, 2], tags=[[2, 3, 0], [3, 0, 0], [0, 0, 0], [1, 3, 0]])
    assert counted(rows)["tags"] == [1, 1, 3, 1, 0]  # absent, unknown, 3, 2, the rest


def test_a_history_is_its_newest_id_and_its_length():
    rows = window([2] * 6, past=[[], [7], [7, 8], [8, 8, 7], [8, 8, 8, 1], [2, 2, 2, 2, 2, 7]])
    assert counted(rows)["history.item"] == [1, 1, 3, 1, 0]  # absent, unknown, 7, 8, the rest
    assert counted(rows)["history.item (length)"] == [1, 0, 1, 2, 2]  # none, -, 1, 2 or 3, 4 and cut at 5


def test_a_number_falls_into_ten_bins_of_equal_size():
    price = np.random.default_rng(0).permutation(1000) + 1.0
    rows = window([2] * 1000, price=price)
    assert counted(rows)["price"] == [0, 0, *[100] * 10]
    assert counted(window([2, 2], price=[-5.0, 5000.0]), rows)["price"] == [0, 0, 1, *[0] * 8, 1]


@pytest.mark.parametrize(("zeros", "absent"), [(10, 0), (11, 11)])
def test_zero_has_its_own_bin_where_more_than_one_in_a_hundred_are_zero(zeros, absent):
    price = np.r_[np.zeros(zeros), np.arange(1.0, 1001.0 - zeros)]
    found = counted(window([2] * 1000, price=price))["price"]
    assert (found[MISSING], found[UNKNOWN], sum(found[FIRST_BIN:])) == (absent, 0, 1000 - absent)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_number_has_one_bin_for_itself(value):
    found = counted(window([2] * 50, price=value))["price"]
    assert sorted(found)[:-1] == [0] * (len(found) - 1)
    assert sum(found) == 50


def test_rows_of_label_0_count_for_as_many_as_they_stand_for():
    rows = window([2, 2, 3, 3], label=[0, 1, 0, 0], tags=[[2, 3, 0], [2, 0, 0], [3, 0, 0], [0, 0, 0]])
    found = counted(rows, negative_weight=4.0)
    assert found["item"] == [0, 0, 4 + 1, 4 + 4, 0]
    assert found["tags"] == [4, 0, 4 + 1, 4 + 4, 0]


def random_rows(num_rows=3000, seed=0):
    generator = np.random.default_rng(seed)
    past = [list(generator.integers(0, 40, generator.integers(0, 8))) for _ in range(num_rows)]
    ids = {"item": generator.integers(0, 40, num_rows), "tags": generator.integers(0, 9, (num_rows, 3))}
    return window(**ids, past=past, price=generator.normal(size=num_rows), label=generator.integers(0, 2, num_rows))


def reordered(rows):
    order = np.random.default_rng(9).permutation(len(rows))
    return dataclasses.replace(rows, records=rows.records[order])


@pytest.mark.parametrize("chunk", [1, 7, 2999, 10_000])
def test_neither_the_order_of_the_rows_nor_the_chunks_matter(monkeypatch, chunk):
    rows = random_rows(300)
    wanted = count(rows, cut(rows), lambda row_id: row_id % 5, 6)
    monkeypatch.setattr(bins, "_CHUNK", chunk)
    other = reordered(rows)
    found = count(other, cut(other), lambda row_id: row_id % 5, 6)
    assert found.rows.tolist() == wanted.rows.tolist() == [60] * 5 + [0]
    assert [total.tolist() for total in found.bins] == [total.tolist() for total in wanted.bins]
    assert len(found.bins) == 5


def test_a_sample_is_all_rows_or_about_as_many_as_wanted_and_the_same_in_any_order():
    rows = random_rows()
    assert sample(rows, 3000).tolist() == list(range(3000))
    taken, other = sample(rows, 1000), reordered(rows)
    assert abs(len(taken) - 1000) < 5 * np.sqrt(3000 * (1 / 3) * (2 / 3))
    assert np.all(np.diff(taken) > 0)
    assert set(other["row_id"][sample(other, 1000)]) == set(rows["row_id"][taken])

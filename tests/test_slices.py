"""Slices of a planted window: who is new or heavy, what is cold or in the tail, hours, values and quarters."""

import numpy as np
import pytest

from recdistill.data.encoder import Encoder
from recdistill.data.store import Rows, open_rows, record_type
from recdistill.promotion.against import within
from recdistill.promotion.slices import slices
from recdistill.types import FIRST_KNOWN, IdFeature, Layout

ITEMS = 12
HOUR_US = 3_600_000_000


def layout():
    item = IdFeature(name="item", table="item", start=0, width=1, num_rows=ITEMS, kind="single")
    past = IdFeature(name="history.item", table="item", start=1, width=2, num_rows=ITEMS, kind="history")
    return Layout(ids=(item, past), dense=("price",))


def rows(user, item, **more):
    records = np.zeros(len(user), record_type(1, 1))
    records["user"], records["ids"][:, 0] = user, item
    for name, values in more.items():
        records[name] = np.reshape(values, records[name].shape)
    return Rows(layout=layout(), records=records, events={"history.item": np.zeros(0, np.int32)})


def cut(name, train, test):
    return [(title, np.flatnonzero(mask).tolist()) for title, mask in slices([name], None, train, test)]


TRAIN = rows(user=[7] * 30 + list(range(10, 29)), item=[2] * 30 + [3] * 9 + [4] * 6 + [5] * 4)


def test_new_users_have_no_row_before_and_heavy_ones_most():
    test = rows(user=[7, 10, 99, 1, 28], item=[2] * 5)
    assert cut("new_users", TRAIN, test) == [("new_users", [2, 3])]
    assert cut("heavy_users", TRAIN, test) == [("heavy_users", [0])]


def test_cold_items_have_fewer_than_five_rows_and_the_tail_a_fifth():
    """Of 49 rows item 2 has 30, 3 has 9, 4 has 6, 5 has 4: those of 4 are cold, a fifth (9.8) are 5's 4."""
    test = rows(user=[7] * 6, item=[2, 3, 4, 5, 6, 1])  # 6: never seen; 1: out of vocabulary
    assert cut("cold_items", TRAIN, test) == [("cold_items", [3, 4, 5])]
    assert cut("tail", TRAIN, test) == [("tail", [3, 4, 5])]


def test_hours_are_those_of_the_day_in_utc():
    test = rows(user=[1] * 3, item=[2] * 3, time=[HOUR_US * 23, HOUR_US * 24, HOUR_US * (48 + 23) + 5])
    assert cut("hour", TRAIN, test) == [("hour 00", [1]), ("hour 23", [0, 2])]


def test_a_number_falls_into_quarters():
    test = rows(user=[1] * 8, item=[2] * 8, dense=[5.0, 1, 2, 3, 4, 6, 7, 8])
    found = cut("price", TRAIN, test)
    assert [title for title, _ in found] == [f"price part {n} of 4" for n in (1, 2, 3, 4)]
    assert found[0][1] == [1, 2]
    assert sorted(row for _, places in found for row in places) == list(range(8))


def test_values_of_a_feature_carry_their_names_and_lists_count_for_each(tiny_prepared):
    encoder = Encoder.open(tiny_prepared / "encoder")
    train, test = (open_rows(tiny_prepared, name) for name in ("train", "test"))
    found = dict(slices(["country", "categories"], encoder, train, test))
    countries = {title: mask for title, mask in found.items() if title.startswith("country ")}
    assert len(countries) > 1
    assert sum(mask.astype(int) for mask in countries.values()).tolist() == [1] * len(test)
    ids = test["ids"][:, next(f for f in test.layout.ids if f.name == "country").start]
    for place, value in enumerate(encoder.tables["country"].values.to_pylist()):
        mask = countries.pop(f"country {value}", np.zeros(len(test), bool))
        assert mask.tolist() == (ids == place + FIRST_KNOWN).tolist()
    assert countries.keys() <= {"country absent", "country unknown"}
    listed = sum(mask.astype(int) for title, mask in found.items() if title.startswith("categories"))
    assert listed.max() == 2


def test_many_values_are_twenty_and_the_rest(tiny_prepared):
    encoder = Encoder.open(tiny_prepared / "encoder")
    train, test = (open_rows(tiny_prepared, name) for name in ("train", "test"))
    found = slices(["item_id"], encoder, train, test)
    assert len(found) == 21
    assert found[-1][0] == "item_id, the rest"
    assert sum(mask.astype(int) for _, mask in found).tolist() == [1] * len(test)


@pytest.mark.parametrize("seed", range(3))
def test_within_a_slice_users_keep_their_weights(seed):
    from recdistill.metrics.rows import Rows as Judged

    generator = np.random.default_rng(seed)
    user, mask = generator.integers(0, 6, 40), generator.random(40) < 0.3
    user[:6] = np.arange(6)
    judged = Judged(label=generator.integers(0, 2, 40).astype(float), user=user, request=np.arange(40))
    weights = np.arange(12.0).reshape(2, 6)
    inside, theirs = within(judged, weights, mask)
    assert theirs[:, inside.user].tolist() == weights[:, user[mask]].tolist()
    assert inside.label.tolist() == judged.label[mask].tolist()
    assert inside.request.tolist() == list(range(mask.sum()))

"""Events in time and out of it: order, the future, and repeats as a set would find them, whatever is held at once."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from recdistill.config.data import Contract
from recdistill.data.contract import repeats
from recdistill.data.contract.repeats import event_key, in_the_future, out_of_order


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=5))
def test_out_of_order_is_earlier_than_any_before(parts):
    latest, seen = None, []
    for part in parts:
        time = np.array(part, dtype=np.int64)
        assert out_of_order(time, latest).tolist() == [
            n for n, at in enumerate(part) if any(at < other for other in [*seen, *part[:n]])
        ]
        seen += part
        latest = max(seen) if seen else None


def test_the_future_begins_after_the_clock_and_max_future():
    time = np.array([100, 100 + 3_600_000_000, 101 + 3_600_000_000])
    assert in_the_future(time, 100, Contract(max_future=timedelta(hours=1))).tolist() == [2]
    assert in_the_future(time, 100, Contract()).tolist() == []


def places_of_repeats(parts):
    seen, found = set(), []
    for part in parts:
        found.append([])
        for place, key in enumerate(part):
            if key in seen:
                found[-1].append(place)
            seen.add(key)
    return found


KEYS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, -1, 2**62, -(2**63)]))


@given(st.lists(st.lists(KEYS, max_size=12), max_size=6), st.integers(1, 9))
def test_repeats_are_what_a_set_says_whatever_is_held_at_once(parts, most):
    keys = [np.array(part, dtype=np.int64) for part in parts]
    assert [places.tolist() for places in repeats.repeats(keys, most)] == places_of_repeats(parts)


def test_repeats_among_many_random_keys_sort_few_at_once(tmp_path, monkeypatch):
    generator = np.random.default_rng(1)
    values = generator.integers(-(2**63), 2**63 - 1, 30_000)
    parts = np.split(generator.choice(values, 60_000), [7, 20_000, 20_000, 50_000])
    keys = []
    for number, part in enumerate(parts):
        np.save(tmp_path / f"{number}.npy", part)
        keys.append(np.load(tmp_path / f"{number}.npy", mmap_mode="r") if len(part) else part)
    sizes, seen_before = [], repeats._seen_before
    monkeypatch.setattr(repeats, "_seen_before", lambda p: sizes.append(sum(map(len, p))) or seen_before(p))
    found = repeats.repeats(keys, 5_000)
    assert [places.tolist() for places in found] == places_of_repeats([part.tolist() for part in parts])
    assert len(sizes) > 10
    assert max(sizes) <= 5_000


def test_one_key_for_all_events_is_held_once_per_segment(monkeypatch):
    sizes, seen_before = [], repeats._seen_before
    monkeypatch.setattr(repeats, "_seen_before", lambda p: sizes.append(sum(map(len, p))) or seen_before(p))
    found = repeats.repeats([np.zeros(5000, dtype=np.int64)] * 3, 100)
    assert [len(places) for places in found] == [4999, 5000, 5000]
    assert max(sizes) == 3


def test_an_event_key_tells_columns_nulls_and_types_of_values_apart():
    times = pa.array([1, 1, 1, 1, 1]).cast(pa.timestamp("us", "UTC"))
    table = pa.table(
        {"a": [0, None, 0, 1, 0], "b": ["", "", None, "0", ""], "t": times, "x": [0.5, 0.5, 0.5, 0.5, 0.5]}
    )
    keys = event_key(table, ["a", "b", "t", "x"])
    assert keys[0] == keys[4]
    assert len(set(keys.tolist())) == 4
    assert not (event_key(table, ["b", "a"]) == event_key(table, ["a", "b"])).any()
    swapped = pa.table({"a": [1, 2], "b": [2, 1]})
    assert len(set(event_key(swapped, ["a", "b"]).tolist())) == 2


def test_an_event_key_does_not_depend_on_how_a_column_is_kept():
    plain = pa.table({"a": ["x", None, "y"], "n": pa.array([1, 2, 3], pa.int32())})
    other = pa.table(
        {"a": plain.column("a").combine_chunks().dictionary_encode(), "n": pa.array([1, 2, 3], pa.int64())}
    )
    wanted = event_key(plain, ["a", "n"])
    assert (event_key(other, ["a", "n"]) == wanted).all()
    assert (event_key(pa.concat_tables([plain, plain]), ["a", "n"]) == np.r_[wanted, wanted]).all()
    days = pa.table({"d": pa.array([0, 1, None], pa.int32()).view(pa.date32())})
    assert len(set(event_key(days, ["d"]).tolist())) == 3

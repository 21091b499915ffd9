"""Each rule of a contract both ways; a plain reading of the rules keeps the same rows; repeats; the whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from conftest import log_table, make_run, the_line
from hypothesis import given
from hypothesis import strategies as st

from recdistill.config_data import ColumnRule, Contract, Partition
from recdistill.data.contract import repeats
from recdistill.data.contract import rules as contract
from recdistill.data.contract.repeats import event_key, in_the_future, out_of_order
from recdistill.data.contract.rules import broken_rows, ruled_columns
from recdistill.data.contract.whole import check_types, check_whole, missing
from recdistill.data.log.listing import LogFile
from recdistill.data.log.values import microseconds

NAN, INF = float("nan"), float("inf")


def log_file(num_rows=1, name="part-0.parquet", row_groups=None, **partition):
    groups = tuple(row_groups or (num_rows,))
    path = f"LOG/{name}"
    return LogFile(
        path=path, name=name, size=1, sha256="", num_rows=num_rows, first_row=0, row_groups=groups, partition=partition
    )


def a_run(tmp_path="/nowhere", features=None, **data):
    return make_run(Path(tmp_path), Path(tmp_path), data=data, **({"features": features} if features else {}))


def broken(run, table, file=None):
    """(column, wanted) -> places, of every broken rule."""
    found = broken_rows(run, table, file or log_file(table.num_rows))
    assert all(rule.rows.dtype == np.int64 and (np.diff(rule.rows) > 0).all() and len(rule.rows) for rule in found)
    assert all(rule.remedy for rule in found)
    return {(rule.column, rule.wanted): rule.rows.tolist() for rule in found}


def ruled(values, kind=None, rule=None, **rules):
    """Places that break the only rule given, of a column of these values."""
    table = log_table(len(values), extra=values if isinstance(values, pa.Array) else pa.array(values, kind))
    found = broken(a_run(contract={"columns": {"extra": {"nulls": True, **rules}}}), table)
    assert len(found) <= 1
    assert all(column == "extra" for column, _ in found)
    return next(iter(found.values()), [])


def test_a_log_that_obeys_breaks_nothing():
    assert broken(a_run(), log_table(50)) == {}
    assert broken(a_run(), log_table(0)) == {}


@pytest.mark.parametrize("column", ["timestamp", "user_id", "clicked", "request_id"])
def test_a_null_where_it_identifies_a_row_is_broken(column):
    table = log_table(6)
    values = table.column(column).combine_chunks()
    holed = pa.array([None if n in (1, 4) else v for n, v in enumerate(values.to_pylist())], values.type)
    assert broken(a_run(), log_table(6, **{column: holed})) == {(column, "a value"): [1, 4]}


@pytest.mark.parametrize("column", ["item_id", "country", "categories", "price"])
def test_a_null_elsewhere_is_fine(column):
    kind = log_table(1).schema.field(column).type
    assert broken(a_run(), log_table(6, **{column: pa.nulls(6, kind)})) == {}


def test_ids_may_be_negative_and_large_and_lists_may_hold_nulls_and_be_long():
    lists = pa.array([[None, "books"], [], None, ["x"] * 10_000], pa.list_(pa.string()))
    ids = pa.array([-1, 2**31 + 5, 2**62, -(2**63)])
    assert broken(a_run(), log_table(4, item_id=ids, user_id=ids, categories=lists)) == {}
    assert broken(a_run(), log_table(2, user_id=pa.array([2**64 - 1, 0], pa.uint64()))) == {}


def test_a_label_is_0_or_1_in_any_type_where_no_threshold_is_given():
    wanted = ("clicked", "a label of 0 or 1")
    for kind in (pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(5, 2)):
        assert broken(a_run(), log_table(4, clicked=pa.array([0, 1, 2, 1], kind))) == {wanted: [2]}, kind
    assert broken(a_run(), log_table(2, clicked=pa.array([True, False]))) == {}
    assert broken(a_run(), log_table(5, clicked=pa.array([-0.0, 0.5, NAN, INF, 1.0]))) == {wanted: [1, 2, 3]}


def test_a_label_with_a_threshold_is_a_number():
    run = a_run(label={"column": "clicked", "at_least": 4})
    assert broken(run, log_table(4, clicked=pa.array([-3.5, NAN, INF, 9]))) == {("clicked", "a number"): [1]}
    assert broken(run, log_table(2, clicked=pa.array([-3, 9]))) == {}


def test_dense_numbers_are_finite_and_fit_32_bits():
    values = pa.array([NAN, INF, -INF, 1e38, -0.0, 5e-324, 1e39, None])
    assert broken(a_run(), log_table(8, price=values)) == {
        ("price", "a finite number"): [0, 1, 2],
        ("price", "a number that 32 bits can hold"): [6],
        ("price", "a number >= 0 for log1p"): [2],
    }


def test_log1p_wants_numbers_from_0_on_and_standardise_does_not():
    table = log_table(3, price=pa.array([-1, 0, 3]))
    assert broken(a_run(), table) == {("price", "a number >= 0 for log1p"): [0]}
    features = {"ids": ["item_id"], "dense": ["price"], "history": None}
    assert broken(a_run(features=features), table) == {}


def test_numbers_that_are_binned_or_averaged_are_finite():
    values = pa.array([1.0, NAN, None])
    binned = {"ids": ["item_id", {"column": "price", "edges": [1, 2]}], "dense": [], "history": None}
    assert broken(a_run(features=binned), log_table(3, price=values)) == {("price", "a finite number"): [1]}
    mean = {"ids": ["item_id"], "dense": [], "history": None}
    mean["aggregates"] = [{"value": "mean", "of": "price", "by": "item_id"}]
    assert broken(a_run(features=mean), log_table(3, price=values)) == {("price", "a finite number"): [1]}


@pytest.mark.parametrize(
    ("values", "kind", "low", "high", "places"),
    [
        ([0, 1, 3, 4, None], pa.int8(), 1, 3, [0, 3]),
        ([0, 255, 3], pa.uint8(), -7, 1000, []),
        ([0, 255, 3], pa.uint8(), 300, None, [0, 1, 2]),
        ([2**64 - 1, 5], pa.uint64(), None, 10, [0]),
        ([2**63 - 1, -(2**63)], pa.int64(), -1e30, 1e30, []),
        ([1, 2, 3], pa.int32(), 1.5, 2.5, [0, 2]),
        ([0.99, 1.0, 3.0, 3.01, NAN, INF, None], pa.float64(), 1, 3, [0, 3, 4, 5]),
        ([NAN, INF, -INF, 5e-324, -0.0], pa.float64(), 0, None, [0, 2]),
        ([1.5, -2.5], pa.float32(), None, 0, [0]),
        ([True, False], pa.bool_(), 1, None, [1]),
        ([None, None], pa.float64(), 1, 2, []),
        ([], pa.int64(), 1, 2, []),
    ],
)
def test_min_and_max(values, kind, low, high, places):
    assert ruled(values, kind, min=low, max=high) == places


def test_min_and_max_of_decimals():
    assert ruled(pa.array([Decimal("1.00"), Decimal("0.99"), None], pa.decimal128(9, 2)), min=1) == [1]


@pytest.mark.parametrize(
    ("values", "kind", "allowed", "places"),
    [
        (["a", "", "é", None, "b"], pa.string(), ["a", "é"], [1, 4]),
        (["a", "b"], pa.large_string(), ["a"], [1]),
        ([1, 2, None], pa.int8(), [1, 3.0], [1]),
        ([0.5, -0.0, 2.0, NAN], pa.float64(), [0, 0.5], [2, 3]),
        ([0.1, 0.2], pa.float32(), [0.1], [1]),
        ([True, False], pa.bool_(), [True], [1]),
        ([["a"], ["a", "c"], [], None, [None], ["c", "c"]], pa.list_(pa.string()), ["a"], [1, 5]),
        ([[1, 2], [3]], pa.large_list(pa.int64()), [1, 2], [1]),
        ([None, None], pa.string(), ["a"], []),
    ],
)
def test_allowed(values, kind, allowed, places):
    assert ruled(values, kind, allowed=allowed) == places
    if pa.types.is_string(kind):
        assert ruled(pa.array(values, kind).dictionary_encode(), allowed=allowed) == places


@pytest.mark.parametrize(
    ("values", "kind", "most", "places"),
    [
        (["", "ab", "abc", None, "日本", "日本語"], pa.string(), 2, [2, 5]),
        (["ab", "abc"], pa.large_string(), 2, [1]),
        ([[], ["abc"], ["a"] * 10_000, None, ["a", None, "b"]], pa.list_(pa.string()), 2, [2, 4]),
        ([None], pa.string(), 1, []),
    ],
)
def test_max_length(values, kind, most, places):
    assert ruled(values, kind, max_length=most) == places
    if pa.types.is_string(kind):
        assert ruled(pa.array(values, kind).dictionary_encode(), max_length=most) == places


def test_nulls_of_a_rule():
    assert ruled([None, 1, None], nulls=False) == [0, 2]
    assert ruled([None, 1, None], nulls=True) == []
    assert ruled(pa.nulls(3, pa.string()), nulls=False) == [0, 1, 2]
    assert ruled(pa.array(["a", None]).dictionary_encode(), nulls=False) == [1]
    hidden = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["a", None]))
    assert ruled(hidden, nulls=False) == [1, 2]


def test_tables_in_chunks_and_in_slices_give_places_in_the_table():
    table = log_table(6, price=pa.array([1.0, NAN, 2.0, NAN, 3.0, NAN]))
    chunks = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    assert broken(a_run(), chunks) == {("price", "a finite number"): [1, 3, 5]}
    assert broken(a_run(), table.slice(3)) == {("price", "a finite number"): [0, 2]}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_in_the_wrong_unit_are_found(unit):
    per_second = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[unit]
    now = 1_700_000_000 * per_second
    run = a_run(time_unit=unit, contract={"earliest": "2020-01-01"})
    times = pa.array([now, now // 1000, -now])
    early = ("timestamp", "a time from 2020-01-01 00:00:00+00:00 on")
    assert broken(run, log_table(3, timestamp=times)) == {early: [1, 2]}
    if unit != "ns":  # a thousand times as many of those do not fit
        far = ("timestamp", "a time of the years 1 to 9999")
        assert broken(run, log_table(2, timestamp=pa.array([now, now * 1000]))) == {far: [1]}
    typed = pa.array([now, now // 1000]).cast(pa.timestamp(unit))
    assert broken(a_run(contract={"earliest": "2020-01-01"}), log_table(2, timestamp=typed)) == {early: [1]}


def test_times_beyond_all_calendars_overflow_nowhere():
    far = ("timestamp", "a time of the years 1 to 9999")
    times = pa.array([2**63 - 1, -(2**63), 0])
    assert broken(a_run(time_unit="s"), log_table(3, timestamp=times)) == {far: [0, 1]}
    assert broken(a_run(time_unit="s"), log_table(2, timestamp=pa.array([2**64 - 1, 3], pa.uint64()))) == {far: [0]}
    assert broken(a_run(), log_table(3, timestamp=times.cast(pa.timestamp("s")))) == {far: [0, 1]}
    days = pa.array([2**31 - 1, 3], pa.int32()).view(pa.date32())
    assert broken(a_run(), log_table(2, timestamp=days)) == {far: [0]}


def test_earliest_itself_is_fine_to_the_microsecond():
    at = datetime(2023, 5, 6, 7, tzinfo=UTC)
    times = pa.array([at - timedelta(microseconds=1), at]).cast(pa.timestamp("us", "UTC"))
    run = a_run(contract={"earliest": at})
    assert list(broken(run, log_table(2, timestamp=times)).values()) == [[0]]
    assert list(broken(run, log_table(2, timestamp=times.cast(pa.timestamp("ns")))).values()) == [[0]]


def test_bounds_between_two_ticks_of_a_coarse_clock():
    run = a_run(time_unit="s", contract={"earliest": "2023-05-06T07:00:00.5Z"})
    first = round(datetime(2023, 5, 6, 7, tzinfo=UTC).timestamp())
    assert list(broken(run, log_table(2, timestamp=pa.array([first, first + 1]))).values()) == [[0]]


def test_events_of_another_partition_are_late_or_early():
    begin = datetime(2023, 5, 6, tzinfo=UTC)
    offsets = [timedelta(hours=-3), timedelta(hours=-2), timedelta(0), timedelta(hours=24), timedelta(hours=23.9)]
    table = log_table(5, timestamp=pa.array([begin + offset for offset in offsets]).cast(pa.timestamp("us", "UTC")))
    file = log_file(5, day="2023-05-06")
    strict = broken(a_run(partition={"column": "day"}), table, file)
    end = ("timestamp", "a time before the end of day=2023-05-06")
    assert strict == {("timestamp", "a time from the begin of day=2023-05-06 on"): [0, 1], end: [3]}
    lenient = broken(a_run(partition={"column": "day", "lateness": "2h"}), table, file)
    assert lenient == {("timestamp", "a time at most 2:00:00 before day=2023-05-06 on"): [0], end: [3]}
    month = {"column": "month", "format": "%Y-%m", "length": "month"}
    assert broken(a_run(partition=month), table, log_file(5, month="2023-05")) == {}


# --- a plain reading of the rules, row by row


def obeys(rule: ColumnRule, value) -> bool:
    if value is None:
        return rule.nulls
    if rule.min is not None and not (isinstance(value, str) or value >= rule.min):
        return False
    if rule.max is not None and not (isinstance(value, str) or value <= rule.max):
        return False
    if rule.allowed is not None and value not in rule.allowed:
        return False
    return rule.max_length is None or len(value) <= rule.max_length


NUMBERS = st.one_of(st.none(), st.sampled_from([NAN, INF, -INF, -0.0, 5e-324, 1e38]), st.integers(-4, 4).map(float))
RULES = st.fixed_dictionaries(
    {"nulls": st.booleans()},
    optional={
        "min": st.integers(-4, 0),
        "max": st.integers(0, 4),
        "allowed": st.lists(st.integers(-4, 4), min_size=1, max_size=6),
    },
)
TEXT_RULES = st.fixed_dictionaries(
    {"nulls": st.booleans()},
    optional={
        "max_length": st.integers(1, 3),
        "allowed": st.lists(st.text("aéb日", max_size=3), min_size=1, max_size=5),
    },
)


@given(st.lists(st.tuples(NUMBERS, st.one_of(st.none(), st.text("aéb日", max_size=4))), max_size=30), RULES, TEXT_RULES)
def test_the_rows_kept_are_those_that_obey_every_rule(rows, number_rule, text_rule):
    number, text = ([row[n] for row in rows] for n in (0, 1))
    table = log_table(len(rows), amount=pa.array(number, pa.float64()), word=pa.array(text, pa.string()))
    found = broken(a_run(contract={"columns": {"amount": number_rule, "word": text_rule}}), table)
    bad = {place for places in found.values() for place in places}
    rules = ColumnRule(**number_rule), ColumnRule(**text_rule)
    wanted = {n for n, row in enumerate(rows) if not all(map(obeys, rules, row))}
    assert bad == wanted


# --- order, future, repeats


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
    assert [places.tolist() for places in contract.repeats(keys, most)] == places_of_repeats(parts)


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
    found = contract.repeats(keys, 5_000)
    assert [places.tolist() for places in found] == places_of_repeats([part.tolist() for part in parts])
    assert len(sizes) > 10
    assert max(sizes) <= 5_000


def test_one_key_for_all_events_is_held_once_per_segment(monkeypatch):
    sizes, seen_before = [], repeats._seen_before
    monkeypatch.setattr(repeats, "_seen_before", lambda p: sizes.append(sum(map(len, p))) or seen_before(p))
    found = contract.repeats([np.zeros(5000, dtype=np.int64)] * 3, 100)
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


# --- types and the whole


def a_log(types=None, files=()):
    return SimpleNamespace(source="LOG", types=types or {}, files=tuple(files))


def test_types_that_rules_cannot_hold_for_are_told_at_once():
    types = {"a": pa.int64(), "b": pa.string(), "c": pa.timestamp("us", "UTC"), "d": pa.list_(pa.string())}
    columns = {
        "a": {"type": "int32", "allowed": ["x", 1.5, True], "max_length": 3},
        "b": {"min": 1},
        "c": {"allowed": ["2020-01-01"]},
        "dd": {"type": "string"},
    }
    lines = check_types(a_run(contract={"columns": columns}), a_log(types))
    assert len(lines) == 6
    the_line(lines, "column a", "wanted type int32, found int64")
    the_line(lines, "column a", "wanted allowed values of int64, found 'x', 1.5, True")
    the_line(lines, "column a", "max_length", "found int64")
    the_line(lines, "column b", "wanted numbers, for min and max, found string")
    the_line(lines, "column c", "allowed values of timestamp[us, tz=UTC]")
    the_line(lines, "column dd", "wanted such a column", "did you mean d?")


def test_types_that_fit_are_passed():
    types = {"a": pa.int8(), "b": pa.dictionary(pa.int32(), pa.string()), "d": pa.list_(pa.string()), "x": pa.bool_()}
    columns = {
        "a": {"type": "int8", "allowed": [1, -128], "min": 0},
        "b": {"allowed": ["x"], "max_length": 3},
        "d": {"allowed": ["x"], "max_length": 3, "type": "list<item: string>"},
        "x": {"allowed": [True], "min": 0},
    }
    assert check_types(a_run(contract={"columns": columns}), a_log(types)) == []
    too_large = check_types(a_run(contract={"columns": {"a": {"allowed": [300]}}}), a_log(types))
    the_line(too_large, "column a", "wanted allowed values of int8, found 300")


def test_rules_of_partitions_want_partitions():
    alone = check_types(a_run(contract={"complete": True, "min_rows_per_partition": 1}), a_log())
    assert len(alone) == 2
    the_line(alone, "data.contract.complete", "wanted data.partition")
    files = [log_file(name="a", day="2020-01-01"), log_file(name="b"), log_file(name="c", day="monday")]
    lines = check_types(a_run(partition={"column": "day"}), a_log(files=files))
    assert len(lines) == 2
    the_line(lines, "LOG/b", "found no such key")
    the_line(lines, "LOG/c", "wanted day=%Y-%m-%d in the path, found monday")


def days(*dates):
    return [log_file(name=f"day={date}/part-{n}.parquet", day=date) for n, date in enumerate(dates)]


def whole(rows, positives=None, files=None, **settings):
    files = files or days(*(f"2020-01-{n + 1:02}" for n in range(len(rows))))
    run = a_run(partition={"column": "day"}, contract=settings)
    return check_whole(run, a_log(files=files), rows, positives or [row / 2 for row in rows])


def test_least_rows_of_files_and_of_partitions():
    assert whole([1, 5]) == []
    the_line(whole([0, 5]), "LOG/day=2020-01-01/part-0.parquet", "wanted at least 1 good rows, found 0")
    assert whole([0, 5], min_rows=0) == []
    assert whole([10, 10], min_rows=10) == []
    assert len(whole([9, 9], min_rows=10)) == 2
    files = days("2020-01-01", "2020-01-01", "2020-01-02")
    assert whole([5, 5, 10], files=files, min_rows_per_partition=10) == []
    the_line(whole([5, 4, 10], files=files, min_rows_per_partition=10), "LOG: day=2020-01-01", "at least 10", "found 9")


def test_a_missing_partition_is_named():
    files = days("2020-02-27", "2020-03-01", "2020-03-02")
    line = the_line(whole([1, 1, 1], files=files, complete=True), "LOG: wanted every day from first to last")
    assert "found none for day=2020-02-28, day=2020-02-29;" in line
    assert whole([1, 1, 1], files=files) == []
    assert whole([1, 1], files=days("2020-02-29", "2020-03-01"), complete=True) == []
    many = the_line(whole([1, 1], files=days("2020-01-01", "2020-02-01"), complete=True), "every day")
    assert "day=2020-01-06 and 25 more" in many


@pytest.mark.parametrize(
    ("length", "form", "values", "gaps"),
    [
        ("month", "%Y-%m", ["2019-11", "2020-02"], ["2019-12", "2020-01"]),
        ("hour", "%Y-%m-%dT%H", ["2020-01-01T22", "2020-01-02T00"], ["2020-01-01T23"]),
    ],
)
def test_missing_months_and_hours(length, form, values, gaps):
    partition = Partition(column="p", format=form, length=length)
    found = missing(partition, [log_file(p=value) for value in values])
    assert [at.strftime(form) for at in found] == gaps


def test_the_label_rate_of_the_whole_and_of_partitions_of_a_hundred_rows():
    assert whole([100, 100], [10, 30], label_rate=(0.1, 0.3)) == []
    the_line(whole([100, 100], [10, 31], label_rate=(0.1, 0.3)), "day=2020-01-02: column clicked", "found 0.31 of 100")
    assert whole([99, 100], [99, 10], label_rate=(0, 0.6)) == []  # too few to judge by
    the_line(whole([100, 100], [0, 0], label_rate=(0.1, 1)), "all rows", "found 0 of 200 rows")
    assert len(whole([100, 100], [0, 0], label_rate=(0.1, 1))) == 3
    assert whole([0, 0], [0, 0], label_rate=(0.1, 1), min_rows=0) == []


def test_ruled_columns_are_all_that_the_rules_read():
    run = a_run(contract={"columns": {"country": {"max_length": 2}}})
    table = log_table(5).select(ruled_columns(run))
    assert set(table.column_names) == {"timestamp", "user_id", "clicked", "request_id", "price", "country"}
    assert broken(run, table) == {}


def test_microseconds_of_times_that_obey_are_exact():
    """Else the rules and what is read afterwards would speak of different instants."""
    times = pa.array([253_402_300_799, -62_135_596_800])
    assert broken(a_run(time_unit="s"), log_table(2, timestamp=times)) == {}
    assert microseconds(times, "s").tolist() == [253_402_300_799 * 10**6, -62_135_596_800 * 10**6]

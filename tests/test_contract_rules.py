"""Each rule of a contract both ways, and a plain reading of the rules, row by row, keeps the same rows."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from conftest import contract_run, log_file, log_table
from hypothesis import given
from hypothesis import strategies as st

from recdistill.config.data import ColumnRule
from recdistill.data.contract.rules import broken_rows, ruled_columns
from recdistill.data.log.values import microseconds

NAN, INF = float("nan"), float("inf")


def broken(run, table, file=None):
    """(column, wanted) -> places, of every broken rule."""
    found = broken_rows(run, table, file or log_file(table.num_rows))
    assert all(rule.rows.dtype == np.int64 and (np.diff(rule.rows) > 0).all() and len(rule.rows) for rule in found)
    assert all(rule.remedy for rule in found)
    return {(rule.column, rule.wanted): rule.rows.tolist() for rule in found}


def ruled(values, kind=None, rule=None, **rules):
    """Places that break the only rule given, of a column of these values."""
    table = log_table(len(values), extra=values if isinstance(values, pa.Array) else pa.array(values, kind))
    found = broken(contract_run(contract={"columns": {"extra": {"nulls": True, **rules}}}), table)
    assert len(found) <= 1
    assert all(column == "extra" for column, _ in found)
    return next(iter(found.values()), [])


def test_a_log_that_obeys_breaks_nothing():
    assert broken(contract_run(), log_table(50)) == {}
    assert broken(contract_run(), log_table(0)) == {}


@pytest.mark.parametrize("column", ["timestamp", "user_id", "clicked", "request_id"])
def test_a_null_where_it_identifies_a_row_is_broken(column):
    table = log_table(6)
    values = table.column(column).combine_chunks()
    holed = pa.array([None if n in (1, 4) else v for n, v in enumerate(values.to_pylist())], values.type)
    assert broken(contract_run(), log_table(6, **{column: holed})) == {(column, "a value"): [1, 4]}


@pytest.mark.parametrize("column", ["item_id", "country", "categories", "price"])
def test_a_null_elsewhere_is_fine(column):
    kind = log_table(1).schema.field(column).type
    assert broken(contract_run(), log_table(6, **{column: pa.nulls(6, kind)})) == {}


def test_ids_may_be_negative_and_large_and_lists_may_hold_nulls_and_be_long():
    lists = pa.array([[None, "books"], [], None, ["x"] * 10_000], pa.list_(pa.string()))
    ids = pa.array([-1, 2**31 + 5, 2**62, -(2**63)])
    assert broken(contract_run(), log_table(4, item_id=ids, user_id=ids, categories=lists)) == {}
    assert broken(contract_run(), log_table(2, user_id=pa.array([2**64 - 1, 0], pa.uint64()))) == {}


def test_a_label_is_0_or_1_in_any_type_where_no_threshold_is_given():
    wanted = ("clicked", "a label of 0 or 1")
    for kind in (pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(5, 2)):
        assert broken(contract_run(), log_table(4, clicked=pa.array([0, 1, 2, 1], kind))) == {wanted: [2]}, kind
    assert broken(contract_run(), log_table(2, clicked=pa.array([True, False]))) == {}
    assert broken(contract_run(), log_table(5, clicked=pa.array([-0.0, 0.5, NAN, INF, 1.0]))) == {wanted: [1, 2, 3]}


def test_a_label_with_a_threshold_is_a_number():
    run = contract_run(label={"column": "clicked", "at_least": 4})
    assert broken(run, log_table(4, clicked=pa.array([-3.5, NAN, INF, 9]))) == {("clicked", "a number"): [1]}
    assert broken(run, log_table(2, clicked=pa.array([-3, 9]))) == {}


def test_dense_numbers_are_finite_and_fit_32_bits():
    values = pa.array([NAN, INF, -INF, 1e38, -0.0, 5e-324, 1e39, None])
    assert broken(contract_run(), log_table(8, price=values)) == {
        ("price", "a finite number"): [0, 1, 2],
        ("price", "a number that 32 bits can hold"): [6],
        ("price", "a number >= 0 for log1p"): [2],
    }


def test_log1p_wants_numbers_from_0_on_and_standardise_does_not():
    table = log_table(3, price=pa.array([-1, 0, 3]))
    assert broken(contract_run(), table) == {("price", "a number >= 0 for log1p"): [0]}
    features = {"ids": ["item_id"], "dense": ["price"], "history": None}
    assert broken(contract_run(features=features), table) == {}


def test_numbers_that_are_binned_or_averaged_are_finite():
    values = pa.array([1.0, NAN, None])
    binned = {"ids": ["item_id", {"column": "price", "edges": [1, 2]}], "dense": [], "history": None}
    assert broken(contract_run(features=binned), log_table(3, price=values)) == {("price", "a finite number"): [1]}
    mean = {"ids": ["item_id"], "dense": [], "history": None}
    mean["aggregates"] = [{"value": "mean", "of": "price", "by": "item_id"}]
    assert broken(contract_run(features=mean), log_table(3, price=values)) == {("price", "a finite number"): [1]}


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
    assert broken(contract_run(), chunks) == {("price", "a finite number"): [1, 3, 5]}
    assert broken(contract_run(), table.slice(3)) == {("price", "a finite number"): [0, 2]}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_in_the_wrong_unit_are_found(unit):
    per_second = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[unit]
    now = 1_700_000_000 * per_second
    run = contract_run(time_unit=unit, contract={"earliest": "2020-01-01"})
    times = pa.array([now, now // 1000, -now])
    early = ("timestamp", "a time from 2020-01-01 00:00:00+00:00 on")
    assert broken(run, log_table(3, timestamp=times)) == {early: [1, 2]}
    if unit != "ns":  # a thousand times as many of those do not fit
        far = ("timestamp", "a time of the years 1 to 9999")
        assert broken(run, log_table(2, timestamp=pa.array([now, now * 1000]))) == {far: [1]}
    typed = pa.array([now, now // 1000]).cast(pa.timestamp(unit))
    assert broken(contract_run(contract={"earliest": "2020-01-01"}), log_table(2, timestamp=typed)) == {early: [1]}


def test_times_beyond_all_calendars_overflow_nowhere():
    far = ("timestamp", "a time of the years 1 to 9999")
    times = pa.array([2**63 - 1, -(2**63), 0])
    assert broken(contract_run(time_unit="s"), log_table(3, timestamp=times)) == {far: [0, 1]}
    assert broken(contract_run(time_unit="s"), log_table(2, timestamp=pa.array([2**64 - 1, 3], pa.uint64()))) == {
        far: [0]
    }
    assert broken(contract_run(), log_table(3, timestamp=times.cast(pa.timestamp("s")))) == {far: [0, 1]}
    days = pa.array([2**31 - 1, 3], pa.int32()).view(pa.date32())
    assert broken(contract_run(), log_table(2, timestamp=days)) == {far: [0]}


def test_earliest_itself_is_fine_to_the_microsecond():
    at = datetime(2023, 5, 6, 7, tzinfo=UTC)
    times = pa.array([at - timedelta(microseconds=1), at]).cast(pa.timestamp("us", "UTC"))
    run = contract_run(contract={"earliest": at})
    assert list(broken(run, log_table(2, timestamp=times)).values()) == [[0]]
    assert list(broken(run, log_table(2, timestamp=times.cast(pa.timestamp("ns")))).values()) == [[0]]


def test_bounds_between_two_ticks_of_a_coarse_clock():
    run = contract_run(time_unit="s", contract={"earliest": "2023-05-06T07:00:00.5Z"})
    first = round(datetime(2023, 5, 6, 7, tzinfo=UTC).timestamp())
    assert list(broken(run, log_table(2, timestamp=pa.array([first, first + 1]))).values()) == [[0]]


def test_events_of_another_partition_are_late_or_early():
    begin = datetime(2023, 5, 6, tzinfo=UTC)
    offsets = [timedelta(hours=-3), timedelta(hours=-2), timedelta(0), timedelta(hours=24), timedelta(hours=23.9)]
    table = log_table(5, timestamp=pa.array([begin + offset for offset in offsets]).cast(pa.timestamp("us", "UTC")))
    file = log_file(5, day="2023-05-06")
    strict = broken(contract_run(partition={"column": "day"}), table, file)
    end = ("timestamp", "a time before the end of day=2023-05-06")
    assert strict == {("timestamp", "a time from the begin of day=2023-05-06 on"): [0, 1], end: [3]}
    lenient = broken(contract_run(partition={"column": "day", "lateness": "2h"}), table, file)
    assert lenient == {("timestamp", "a time at most 2:00:00 before day=2023-05-06 on"): [0], end: [3]}
    month = {"column": "month", "format": "%Y-%m", "length": "month"}
    assert broken(contract_run(partition=month), table, log_file(5, month="2023-05")) == {}


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
    found = broken(contract_run(contract={"columns": {"amount": number_rule, "word": text_rule}}), table)
    bad = {place for places in found.values() for place in places}
    rules = ColumnRule(**number_rule), ColumnRule(**text_rule)
    wanted = {n for n, row in enumerate(rows) if not all(map(obeys, rules, row))}
    assert bad == wanted


def test_ruled_columns_are_all_that_the_rules_read():
    run = contract_run(contract={"columns": {"country": {"max_length": 2}}})
    table = log_table(5).select(ruled_columns(run))
    assert set(table.column_names) == {"timestamp", "user_id", "clicked", "request_id", "price", "country"}
    assert broken(run, table) == {}


def test_microseconds_of_times_that_obey_are_exact():
    """Else the rules and what is read afterwards would speak of different instants."""
    times = pa.array([253_402_300_799, -62_135_596_800])
    assert broken(contract_run(time_unit="s"), log_table(2, timestamp=times)) == {}
    assert microseconds(times, "s").tolist() == [253_402_300_799 * 10**6, -62_135_596_800 * 10**6]

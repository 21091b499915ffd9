"""The values behind features: columns as they are, crosses that part what differs, the calendar as datetime has it."""

import itertools
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from conftest import the_line
from hypothesis import given
from hypothesis import strategies as st

from recdistill.config.data import Data
from recdistill.config.features import Features, IdColumn
from recdistill.data.columns import Source, column, cross, event_columns, listed, numbers, source_of
from recdistill.problems import BadInput

PARTS = {
    "hour": lambda at: at.hour,
    "weekday": lambda at: at.weekday(),
    "hour_of_week": lambda at: at.weekday() * 24 + at.hour,
    "day_of_month": lambda at: at.day,
    "month": lambda at: at.month,
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
instants = st.datetimes(datetime(1677, 10, 1), datetime(2262, 1, 1), timezones=st.just(UTC))


def calendar(times, part, unit=None):
    source = Source(columns=("at",), calendar=part, time_unit=unit)
    return source.values(pa.table({"at": times})).to_pylist()


@pytest.mark.parametrize("part", PARTS)
@given(times=st.lists(st.none() | instants, max_size=5))
def test_calendar_parts_are_those_of_datetime(part, times):
    expected = [None if at is None else PARTS[part](at) for at in times]
    for unit in ("us", "ns"):
        assert calendar(pa.array(times, pa.timestamp(unit, "UTC")), part) == expected
        step = {"us": 1, "ns": 1000}[unit]
        since = [None if at is None else (at - EPOCH) // timedelta(microseconds=1) * step for at in times]
        assert calendar(pa.array(since, pa.int64()), part, unit) == expected
    whole = [None if at is None else at.replace(microsecond=0) for at in times]
    for unit, per_second in (("s", 1), ("ms", 1000)):
        since = [None if at is None else int((at - EPOCH).total_seconds()) * per_second for at in whole]
        assert calendar(pa.array(since, pa.int64()), part, unit) == expected
        assert calendar(pa.array(since, pa.timestamp(unit)), part) == expected


@pytest.mark.parametrize("part", PARTS)
def test_calendar_parts_of_days_are_those_of_midnight(part):
    days = [date(1969, 12, 31), None, date(1900, 3, 1), date(2024, 2, 29)]
    expected = [None if day is None else PARTS[part](datetime(day.year, day.month, day.day)) for day in days]
    assert calendar(pa.array(days), part) == expected
    assert calendar(pa.array(days, pa.date64()), part) == expected


def test_a_calendar_part_is_that_of_utc():
    elsewhere = pa.array([datetime(2024, 1, 1, 3, tzinfo=UTC)], pa.timestamp("us", "Asia/Tokyo"))
    assert calendar(elsewhere, "hour") == [3]
    assert calendar(elsewhere, "weekday") == [0]


small = st.sampled_from([None, 0, 1, 2, -1, 2**40])


@given(st.lists(st.tuples(small, st.none() | st.sampled_from(["", "a", "b"]), small), max_size=25))
def test_crosses_are_equal_exactly_where_all_parts_are_and_null_where_any_is(rows):
    parts = [pa.array([row[place] for row in rows], k) for place, k in enumerate([pa.int64(), pa.string(), pa.int64()])]
    found = cross(parts).to_pylist()
    assert [value is None for value in found] == [None in row for row in rows]
    for (one, row), (other, else_) in itertools.combinations(zip(found, rows, strict=True), 2):
        if one is not None and other is not None:
            assert (one == other) == (row == else_)


def test_a_cross_knows_which_column_a_part_is_of():
    one, other = pa.array([1, 2]), pa.array([2, 1])
    found = cross([one, other]).to_pylist()
    assert found[0] != found[1]
    assert found == cross([other, one]).to_pylist()[::-1]
    assert cross([one, one]).to_pylist()[0] != cross([one, one]).to_pylist()[1]


def test_a_cross_does_not_depend_on_how_a_column_is_stored():
    texts, whole = ["a", None, "b", "a"], [1, 2, None, 1]
    expected = cross([pa.array(texts), pa.array(whole)]).to_pylist()
    nulls_inside = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 0]), pa.array(["a", None, "b"]))
    for one in (pa.array(texts).dictionary_encode(), pa.array(texts, pa.large_string()), nulls_inside):
        for other in (pa.array(whole, pa.int8()), pa.array(whole, pa.uint64()), pa.array(whole).dictionary_encode()):
            assert cross([one, other]).to_pylist() == expected
    assert expected[0] == expected[3] is not None
    assert cross([pa.array(texts), pa.nulls(4)]).null_count == 4


def test_crosses_of_many_values_do_not_meet():
    first, second = np.divmod(np.arange(40_000), 200)
    found = cross([pa.array(first), pa.array(second)]).to_numpy()
    assert len(np.unique(found)) == 40_000


@given(st.lists(st.none() | st.lists(st.none() | st.integers(0, 9), max_size=4), max_size=8), st.integers(1, 5))
def test_listed_elements_stand_where_they_stood(rows, width):
    row, place, value = listed(pa.array(rows, pa.list_(pa.int64())), width)
    expected = [(r, p, v) for r, found in enumerate(rows) for p, v in enumerate((found or [])[:width])]
    assert list(zip(row.tolist(), place.tolist(), value.to_pylist(), strict=True)) == expected


def test_a_null_list_is_empty_whatever_lies_under_it():
    lists = pa.ListArray.from_arrays(
        pa.array([0, 2, 4, 5]), pa.array([1, 2, 3, 4, 5]), mask=pa.array([False, True, False])
    )
    row, place, value = listed(lists, 9)
    assert (row.tolist(), place.tolist(), value.to_pylist()) == ([0, 0, 2], [0, 1, 0], [1, 2, 5])
    assert [len(part) for part in listed(pa.nulls(3), 2)] == [0, 0, 0]


def test_a_column_of_a_table_is_one_array():
    table = pa.concat_tables([pa.table({"x": [1]}), pa.table({"x": [2, None]})])
    assert column(table, "x").to_pylist() == [1, 2, None]
    assert column(table.slice(0, 0), "x").to_pylist() == []
    assert column(table.to_batches()[0], "x").to_pylist() == [1]
    assert isinstance(column(table, "x"), pa.Array)


def test_a_column_that_is_not_there_is_one_clear_line():
    with pytest.raises(BadInput) as caught:
        column(pa.table({"x": [1], "y": [2]}), "z")
    the_line(caught.value.problems, "wanted column z", "there are x, y")


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.decimal128(5, 1)])
def test_numbers_are_floats_with_nan_for_null(kind):
    array = pa.array([3, None, 0], kind)
    for found in (numbers(array), numbers(array.dictionary_encode())):
        assert found.dtype == np.float64
        assert np.array_equal(found, [3.0, np.nan, 0.0], equal_nan=True)
    assert numbers(pa.array([True, None, False])).tolist()[::2] == [1.0, 0.0]


DATA = Data(source="log", time="at", time_unit="ms", user="user", label={"column": "clicked"})


@pytest.mark.parametrize(
    ("spec", "source"),
    [
        ({"column": "x"}, Source(columns=("x",))),
        ({"column": "x", "max_values": 3}, Source(columns=("x",), width=3)),
        ({"cross": ["x", "y"]}, Source(columns=("x", "y"))),
        ({"calendar": "month"}, Source(columns=("at",), calendar="month", time_unit="ms")),
    ],
)
def test_a_source_is_what_the_config_says_and_survives_json(spec, source):
    assert source_of(IdColumn(**spec), DATA) == source
    assert Source.from_json(source.to_json()) == source


def test_a_source_reads_its_columns():
    rows = pa.table({"x": [1, None], "y": ["a", "b"], "at": [0, 3_600_000]})
    assert source_of(IdColumn(column="x"), DATA).values(rows).to_pylist() == [1, None]
    assert source_of(IdColumn(calendar="hour"), DATA).values(rows).to_pylist() == [0, 1]
    crossed = source_of(IdColumn(cross=["y", "x"]), DATA).values(rows)
    assert crossed.equals(cross([pa.array(["a", "b"]), pa.array([1, None])]))


def test_past_events_are_of_the_item_and_its_outcomes():
    history = {"item": "item", "outcomes": ["clicked", "country"], "length": 4}
    features = Features(ids=[{"column": "item"}, {"column": "country"}], history=history)
    names = ["item", "clicked", "country"]
    assert event_columns(features) == {f"history.{name}": name for name in names}
    assert event_columns(Features(ids=[{"column": "item"}])) == {}

"""The contract of a log as a whole: types that its rules cannot hold for, files, partitions and the label rate."""

from types import SimpleNamespace

import pyarrow as pa
import pytest
from conftest import contract_run, log_file, the_line

from recdistill.config.data import Partition
from recdistill.data.contract.whole import check_types, check_whole, missing


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
    lines = check_types(contract_run(contract={"columns": columns}), a_log(types))
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
    assert check_types(contract_run(contract={"columns": columns}), a_log(types)) == []
    too_large = check_types(contract_run(contract={"columns": {"a": {"allowed": [300]}}}), a_log(types))
    the_line(too_large, "column a", "wanted allowed values of int8, found 300")


def test_rules_of_partitions_want_partitions():
    alone = check_types(contract_run(contract={"complete": True, "min_rows_per_partition": 1}), a_log())
    assert len(alone) == 2
    the_line(alone, "data.contract.complete", "wanted data.partition")
    files = [log_file(name="a", day="2020-01-01"), log_file(name="b"), log_file(name="c", day="monday")]
    lines = check_types(contract_run(partition={"column": "day"}), a_log(files=files))
    assert len(lines) == 2
    the_line(lines, "LOG/b", "found no such key")
    the_line(lines, "LOG/c", "wanted day=%Y-%m-%d in the path, found monday")


def days(*dates):
    return [log_file(name=f"day={date}/part-{n}.parquet", day=date) for n, date in enumerate(dates)]


def whole(rows, positives=None, files=None, **settings):
    files = files or days(*(f"2020-01-{n + 1:02}" for n in range(len(rows))))
    run = contract_run(partition={"column": "day"}, contract=settings)
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

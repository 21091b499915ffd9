"""What a quarantine holds, to the row; when it refuses a log, and in which words; that it is whole or not there."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import log_table, make_run
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.contract.quarantine import LONGEST, Quarantine, texts
from recdistill.data.contract.rules import Broken, broken_rows
from recdistill.data.log.listing import LogFile
from recdistill.problems import BadInput

NAN = float("nan")
COLUMNS = ["file", "row_group", "row", "column", "wanted", "found", "remedy"]


def log_file(name="day=02/part-0.parquet", row_groups=(10, 5, 85)):
    num_rows = sum(row_groups)
    return LogFile(
        path=f"LOG/{name}",
        name=name,
        size=1,
        sha256="",
        num_rows=num_rows,
        first_row=1000,
        row_groups=tuple(row_groups),
        partition={},
    )


def rule(rows, column="price", wanted="a finite number"):
    return Broken(column=column, wanted=wanted, remedy="mend it", rows=np.array(rows, dtype=np.int64))


def read(path):
    with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
        assert parquet.schema_arrow.names == COLUMNS
        return [tuple(line.values()) for line in parquet.read().to_pylist()]


def refused(quarantine, num_rows):
    with pytest.raises(BadInput) as caught:
        quarantine.finish(num_rows)
    assert quarantine.path.is_file()
    return caught.value.problems


def test_a_line_per_row_and_broken_rule_with_its_row_group(tmp_path):
    table = pa.table({"price": [1.0, NAN, 2.0, float("inf")], "country": ["", "at", None, "no\nway"]})
    quarantine = Quarantine(tmp_path / "q.parquet", limit=1.0)
    keep = quarantine.add(log_file(), 8, table, [rule([1, 3]), rule([0, 2, 3], "country", "one of at")])
    assert keep.tolist() == [False, False, False, False]
    assert quarantine.add(log_file(), 12, table, [rule([3])]).tolist() == [True, True, True, False]
    assert quarantine.finish(100) == 5
    name = "day=02/part-0.parquet"
    assert read(tmp_path / "q.parquet") == [
        (name, 0, 9, "price", "a finite number", "nan", "mend it"),
        (name, 1, 11, "price", "a finite number", "inf", "mend it"),
        (name, 0, 8, "country", "one of at", "", "mend it"),
        (name, 1, 10, "country", "one of at", "null", "mend it"),
        (name, 1, 11, "country", "one of at", "no\nway", "mend it"),
        (name, 2, 15, "price", "a finite number", "inf", "mend it"),
    ]


def test_rows_that_do_not_follow_one_another_keep_their_numbers(tmp_path):
    quarantine = Quarantine(tmp_path / "q.parquet", limit=1.0)
    table = pa.table({"price": [5.0, 6.0, 7.0]})
    assert quarantine.add_rows(log_file(), np.array([3, 14, 99]), table, [rule([1, 2])]).tolist() == [
        True,
        False,
        False,
    ]
    assert quarantine.finish(100) == 2
    assert [line[1:3] for line in read(tmp_path / "q.parquet")] == [(1, 14), (2, 99)]


def test_the_line_says_where_what_how_many_and_what_to_do(tmp_path):
    path = tmp_path / "q.parquet"
    quarantine = Quarantine(path, limit=0.0)
    prices = np.ones(30)
    prices[[17, 20, 25]] = NAN
    table = log_table(30, price=prices, country=pa.array(["at"] * 29 + [""]))
    run = make_run(tmp_path, tmp_path, data={"contract": {"columns": {"country": {"allowed": ["at"]}}}})
    file = log_file(row_groups=(30,))
    quarantine.add(file, 0, table, broken_rows(run, table, file))
    assert refused(quarantine, 30) == [
        "LOG/day=02/part-0.parquet: row group 0: row 17: column price: wanted a finite number, found nan (3 rows so); "
        f"mend or null such values, or raise data.contract.max_quarantined; all are in {path}",
        "LOG/day=02/part-0.parquet: row group 0: row 29: column country: wanted one of at, found '' (1 row); "
        f"mend such rows, or data.contract.columns.country, or raise data.contract.max_quarantined; all are in {path}",
    ]


def test_a_rule_is_told_once_over_all_files_with_its_first_place_and_its_count(tmp_path):
    quarantine = Quarantine(tmp_path / "q.parquet", limit=0.0)
    table = pa.table({"price": [NAN, 2.0, 3.0], "country": ["a", "b", "c"]})
    quarantine.add(log_file("a", (3,)), 0, table, [rule([0])])
    quarantine.add(log_file("b", (3,)), 0, table, [rule([1], "country"), rule([0, 2])])
    lines = refused(quarantine, 6)
    assert len(lines) == 2
    assert lines[0].startswith(
        "LOG/a: row group 0: row 0: column price: wanted a finite number, found nan (3 rows so); "
    )
    assert lines[1].startswith("LOG/b: row group 0: row 1: column country: wanted a finite number, found b (1 row); ")


def test_lines_are_one_line_each_whatever_was_found(tmp_path):
    quarantine = Quarantine(tmp_path / "q.parquet", limit=0.0)
    quarantine.add(log_file(), 0, pa.table({"country": ["a\nb\x1b[31m"]}), [rule([0], "country")])
    (line,) = refused(quarantine, 1)
    assert "found 'a\\nb\\x1b[31m' (1 row); " in line


@pytest.mark.parametrize("share", [0.29, 0.07, 0.01, 0.5, 1.0])
def test_the_limit_may_be_met_and_not_exceeded(tmp_path, share):
    num = round(100 * share)
    table = pa.table({"price": np.full(100, NAN)})
    met = Quarantine(tmp_path / "met.parquet", limit=share)
    met.add(log_file(), 0, table, [rule(range(num))])
    assert met.finish(100) == num
    exceeded = Quarantine(tmp_path / "exceeded.parquet", limit=share)
    exceeded.add(log_file(), 0, table, [rule(range(num))])
    if num < 100:
        exceeded.add(log_file("other"), 0, table, [rule([0])])
    assert len(refused(exceeded, 100 if num < 100 else 99)) == 1


def test_a_row_that_breaks_two_rules_in_two_calls_is_one_bad_row(tmp_path):
    quarantine = Quarantine(tmp_path / "q.parquet", limit=0.5)
    table = pa.table({"price": [1.0], "country": ["a"]})
    quarantine.add(log_file(), 4, table, [rule([0]), rule([0], "country")])
    quarantine.add_rows(log_file(), np.array([4]), table, [rule([0], wanted="another thing")])
    assert quarantine.finish(2) == 1
    assert len(read(quarantine.path)) == 3


def test_no_bad_row_is_an_empty_file(tmp_path):
    quarantine = Quarantine(tmp_path / "deep" / "q.parquet", limit=0.0)
    table = log_table(5)
    assert quarantine.add(log_file(), 0, table, []).all()
    assert quarantine.finish(5) == 0
    assert read(quarantine.path) == []
    assert Quarantine(tmp_path / "none.parquet", limit=0.0).finish(0) == 0


def test_it_appears_whole_or_not_at_all(tmp_path):
    quarantine = Quarantine(tmp_path / "q.parquet", limit=0.0)
    for first in range(0, 300, 3):
        quarantine.add(log_file(row_groups=(300,)), first, pa.table({"price": [NAN] * 3}), [rule([0, 1, 2])])
        assert not quarantine.path.exists()
    refused(quarantine, 300)
    assert [path.name for path in tmp_path.iterdir()] == ["q.parquet"]
    assert [line[2] for line in read(quarantine.path)] == list(range(300))


def test_quarantines_are_merged(tmp_path):
    table = pa.table({"price": [NAN, 1.0]})
    paths = []
    for name in ("a", "b"):
        part = Quarantine(tmp_path / f"{name}.parquet", limit=1.0)
        part.add(log_file(name, (2,)), 0, table, [rule([0])])
        part.finish(2)
        paths.append(part.path)
    both = Quarantine(tmp_path / "both.parquet", limit=0.0)
    both.merge(paths[0], log_file("a", (2,)))
    both.merge(paths[1])
    (line,) = refused(both, 4)
    assert line.startswith(
        "LOG/a: row group 0: row 0: column price: wanted a finite number, found nan (2 rows so); mend it"
    )
    assert read(both.path) == [*read(paths[0]), *read(paths[1])]


def test_a_flipped_bit_in_it_is_found(tmp_path):
    quarantine = Quarantine(tmp_path / "q.parquet", limit=1.0)
    quarantine.add(log_file(), 0, pa.table({"price": [NAN] * 50}), [rule(range(50))])
    quarantine.finish(50)
    chunk = pq.read_metadata(quarantine.path).row_group(0).column(2)
    end = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
    end += chunk.total_compressed_size
    damaged = bytearray(quarantine.path.read_bytes())
    damaged[end - 2] ^= 1
    quarantine.path.write_bytes(damaged)
    with pytest.raises(OSError, match=r"(?i)crc|corrupt|checksum"):
        read(quarantine.path)


def test_values_are_text_of_at_most_200_characters():
    assert texts(pa.array([1, None])) == ["1", "null"]
    assert texts(pa.array(["日本", None]).dictionary_encode()) == ["日本", "null"]
    assert texts(pa.array([[1, None], None], pa.list_(pa.int64()))) == ["[1, None]", "null"]
    exact, longer, many = "x" * LONGEST, "x" * 10**6, [7] * 10_000
    assert texts(pa.array([exact, longer])) == [exact, "x" * (LONGEST - 1) + "…"]
    (text,) = texts(pa.array([many]))
    assert (len(text), text[:4], text[-1]) == (LONGEST, "[7, ", "…")
    assert texts(pa.array([0], pa.timestamp("us", "UTC"))) == ["1970-01-01 00:00:00+00:00"]


@given(st.lists(st.sampled_from([1.0, NAN, -1.0, None]), max_size=20), st.integers(0, 5))
def test_the_rows_in_it_and_the_rows_kept_are_all_rows(tmp_path_factory, prices, first):
    folder = tmp_path_factory.mktemp("quarantine")
    table = log_table(len(prices), price=pa.array(prices, pa.float64()))
    quarantine = Quarantine(folder / "q.parquet", limit=1.0)
    keep = quarantine.add(log_file(), first, table, broken_rows(make_run(folder, folder), table, log_file()))
    assert keep.tolist() == [price is None or price > 0 for price in prices]
    assert quarantine.finish(max(1, len(prices))) == int((~keep).sum())
    assert {line[2] for line in read(quarantine.path)} == set((np.flatnonzero(~keep) + first).tolist())


def test_texts_of_values_that_no_type_of_python_holds():
    """A time of the year 55841 is how a wrong unit shows, and must be shown."""
    times = pa.array([1_700_000_000_000_000_000, None, 0], pa.timestamp("us"))
    assert texts(times) == ["1700000000000000000", "null", "1970-01-01 00:00:00"]
    assert texts(pa.array([2**31 - 1, 0], pa.int32()).view(pa.date32())) == ["2147483647", "1970-01-01"]

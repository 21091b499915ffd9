"""A profile's figures against plain Python; what is estimated says so and is near; the check command."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter as Count
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import log_table, make_run, write_log
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.cli import main as cli
from recdistill.data.inspect import profile as profiles
from recdistill.data.inspect.counting import ERROR, Counter
from recdistill.data.inspect.profile import profile
from recdistill.data.inspect.table import WIDTH, table
from recdistill.data.log.listing import open_log

NAN = float("nan")


def profiled(folder, files, run=None, **options):
    write_log(folder / "log", files, **options)
    log = open_log(str(folder / "log"))
    found = profile(run or make_run(folder / "log", folder), log)
    assert len(found.columns) == len(log.types)
    return found


def one(folder, values, name="extra", **columns):
    """The profile of one column beside those of a log."""
    found = profiled(folder, {"a.parquet": log_table(len(values), **{name: values}, **columns)})
    return next(column for column in found.columns if column.name == name)


def test_numbers_against_plain_python(tmp_path):
    values = [1.5, None, 3.0, NAN, 1.5, float("inf"), -2.0, None]
    found = one(tmp_path, pa.array(values))
    assert (found.num_rows, found.num_nulls, found.num_not_finite) == (8, 2, 2)
    assert (found.num_distinct, found.distinct_error) == (5, None)
    assert (found.low, found.high, found.longest) == (-2.0, 3.0, None)
    assert found.quantiles == {1: -2.0, 25: 1.5, 50: 1.5, 75: 1.5, 99: 3.0}
    assert found.top[0] == (1.5, 2)


def test_strings_against_plain_python(tmp_path):
    values = ["b", "", "a", None, "b", "日本語", "b"]
    for values_as in (pa.array(values), pa.array(values).cast(pa.large_string()), pa.array(values).dictionary_encode()):
        found = one(tmp_path, values_as)
        assert (found.num_nulls, found.num_distinct, found.longest, found.low) == (1, 4, 3, None)
        assert found.top == [("b", 3), ("", 1), ("a", 1), ("日本語", 1)]
        assert found.values == ["b", "", "a", "日本語"]


def test_lists_against_plain_python(tmp_path):
    values = [["a", "b"], [], None, ["a", None], ["c"] * 10_000, ["a"]]
    found = one(tmp_path, pa.array(values, pa.list_(pa.string())))
    assert (found.num_rows, found.num_nulls, found.num_distinct, found.longest) == (6, 1, 3, 1)
    assert (found.low, found.quantiles[50], found.high) == (0, 2, 10_000)
    assert found.top == [("c", 10_000), ("a", 3), ("b", 1)]


def test_times_are_instants_and_those_beyond_a_calendar_are_numbers(tmp_path):
    moments = pa.array([0, 2 * 10**6, 10**6])
    first, last = datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
    for kind in (pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.timestamp("s", "Europe/Berlin")):
        found = one(tmp_path, moments.cast(pa.timestamp("us")).cast(kind))
        assert (found.low, found.high, found.quantiles[50].second) == (first, last, 1)
    days = one(tmp_path, pa.array([0, 1, 2], pa.int32()).view(pa.date32()))
    assert days.high == datetime(1970, 1, 3, tzinfo=UTC)
    far = one(tmp_path, pa.array([1_700_000_000_000_000_000, 0, 0], pa.timestamp("us")))
    assert far.high == 1_700_000_000_000_000_000
    assert json.dumps(far.to_json())


def test_whole_numbers_are_instants_where_they_are_the_time(tmp_path):
    run = make_run(tmp_path, tmp_path, data={"time_unit": "s"})
    files = {"a.parquet": log_table(3, timestamp=pa.array([5, 6, 7]))}
    found = next(c for c in profiled(tmp_path, files, run).columns if c.name == "timestamp")
    assert found.low == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "values",
    [
        pa.nulls(4, pa.float64()),
        pa.nulls(4, pa.string()),
        pa.nulls(4, pa.list_(pa.string())),
        pa.nulls(4),
        pa.array([{"a": 1}] * 4),
        pa.array([b"x"] * 4),
        pa.array([Decimal("1.50")] * 4, pa.decimal128(9, 2)),
        pa.array([True, False, None, True]),
        pa.array([2**64 - 1] * 4, pa.uint64()),
        pa.array([-(2**63), 2**63 - 1, 0, 0]),
        pa.array([NAN] * 4),
        pa.array([[1, 2], None, [], [3]], pa.large_list(pa.int64())),
    ],
)
def test_every_type_has_a_profile_a_line_and_json(tmp_path, values):
    found = profiled(tmp_path, {"a.parquet": log_table(4, extra=values)})
    (column,) = [column for column in found.columns if column.name == "extra"]
    assert (column.num_rows, column.num_nulls) == (4, values.null_count)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["extra"]["rows"] == 4
    assert "extra" in table(found)


VALUES = st.one_of(st.none(), st.integers(-3, 3))


@settings(max_examples=30)
@given(st.lists(st.lists(VALUES, max_size=8), min_size=1, max_size=4))
def test_files_and_tables_add_up(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("parts")
    kept = profiles.ROWS
    profiles.ROWS = 3
    try:
        files = {f"{n}.parquet": log_table(len(part), extra=pa.array(part, pa.int64())) for n, part in enumerate(parts)}
        found = profiled(folder, files, row_group_size=2)
    finally:
        profiles.ROWS = kept
    (column,) = [column for column in found.columns if column.name == "extra"]
    values = [value for part in parts for value in part if value is not None]
    assert column.num_rows == sum(map(len, parts))
    assert column.num_nulls == column.num_rows - len(values)
    assert dict(column.top) == dict(sorted(Count(values).items(), key=lambda n: (-n[1], str(n[0])))[:5])
    assert (column.low, column.high) == ((min(values), max(values)) if values else (None, None))
    ranked = sorted(values)
    assert column.quantiles == {n: ranked[round((len(ranked) - 1) * n / 100)] for n in (1, 25, 50, 75, 99) if ranked}
    assert found.file_rows == [len(part) for part in parts]


def test_positives_are_counted_per_file(tmp_path):
    files = {n: log_table(4, clicked=pa.array(v)) for n, v in {"a": [0, 1, 1, 1], "b": [0, 0, 0, 0]}.items()}
    found = profiled(tmp_path, {f"{name}.parquet": table for name, table in files.items()})
    assert (found.file_rows, found.file_positives) == ([4, 4], [3, 0])


def test_quantiles_of_many_rows_are_those_of_a_sample_that_is_always_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "SAMPLE", 5_000)
    values = np.random.default_rng(0).permutation(50_000)
    files = {"a.parquet": log_table(50_000, extra=values)}
    first, second = (profiled(tmp_path, files).to_json()["extra"] for _ in range(2))
    assert first == second
    assert 4_500 < first["sampled"] < 5_500
    for percent, value in first["quantiles"].items():
        share = int(percent) / 100
        assert abs(value / 50_000 - share) < 5 * math.sqrt(max(share * (1 - share), 1e-3) / 5_000)


# --- counting


@given(st.lists(st.lists(st.integers(0, 30), max_size=40), max_size=6), st.integers(1, 12))
def test_counts_are_exact_or_too_low_by_no_more_than_they_say(parts, limit):
    counter = Counter(limit=limit)
    for part in parts:
        counter.add(pa.array(part, pa.int64()))
    truth = Count(value for part in parts for value in part)
    assert counter.num_distinct == len(truth)  # so few hashes are all kept
    assert counter.exact == (len(truth) <= limit)
    assert counter.missed <= sum(truth.values()) / (limit + 1)
    if counter.exact:
        assert dict(counter.top(100)) == truth
    for value, count in counter.top(100):
        assert truth[value] - counter.missed <= count <= truth[value]
    assert {value for value, count in truth.items() if count > counter.missed} <= {v for v, _ in counter.top(100)}


@pytest.mark.parametrize("as_text", [False, True])
def test_many_values_are_estimated_within_the_error_stated(as_text):
    counter = Counter(limit=1_000)
    heavy = np.full(20_000, 7)
    for first in range(0, 60_000, 20_000):
        values = np.concatenate([np.arange(first, first + 20_000), np.arange(first, first + 20_000), heavy])
        counter.add(pa.array(np.char.add("item ", values.astype(str)) if as_text else values))
    assert not counter.exact
    assert abs(counter.num_distinct / 60_000 - 1) < 1.5 * ERROR
    ((top, count),) = counter.top(1)
    assert top == ("item 7" if as_text else 7)
    assert 60_002 - counter.missed <= count <= 60_002
    assert counter.missed < 200


def test_floats_of_either_zero_are_one_value_and_so_is_nan():
    counter = Counter()
    counter.add(pa.array([0.0, -0.0, NAN, NAN, 1.0]))
    counter.add(pa.array([-0.0, NAN]))
    assert counter.num_distinct == 3
    assert [count for _, count in counter.top(3)] == [3, 3, 1]


def test_memory_does_not_grow_with_the_log():
    counter = Counter(limit=500)
    for part in range(50):
        counter.add(pa.array(np.arange(part * 2_000, part * 2_000 + 2_000)))
        assert len(counter.counts) <= 500
    assert not counter.exact


# --- the table and the command


def test_the_table_fits_its_width(tmp_path):
    extra = pa.array(["x" * 300, "tab\tnew\nline", "", None] * 5)
    shown = table(profiled(tmp_path, {"a.parquet": log_table(20, **{"a" * 60: extra, "some": extra})}))
    lines = shown.splitlines()
    assert len(lines) >= 10
    assert max(map(len, lines)) <= WIDTH
    assert all(line.isprintable() for line in lines)
    assert "25.00%" in shown


@pytest.fixture
def call(tmp_path, tiny_log, monkeypatch, capsys):
    """(exit status, standard output, standard error) of a command on a config of these data settings."""

    def run(*arguments, log=tiny_log, **data):
        settings = make_run(log, tmp_path, data=data).model_dump(mode="json", exclude_none=True)
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
        monkeypatch.setattr(sys, "argv", ["recdistill", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    return run


def test_check_prints_the_columns_the_windows_and_leaves_nothing(call, tmp_path):
    status, out, _ = call("check", "tiny.yaml")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].startswith("column ")
    assert {"price", "categories", "timestamp", "clicked"} <= {line.split()[0] for line in lines}
    assert [line.split()[0] for line in lines[-4:-1]] == ["train", "valid", "test"]
    assert "fingerprint" in lines[-1]
    assert not list((tmp_path / "scratch").iterdir())
    assert not (tmp_path / "run").exists()


def test_check_tells_rows_and_the_whole_at_once_and_keeps_the_evidence(call, tmp_path):
    rules = {"columns": {"price": {"max": 5}}, "label_rate": [0.9, 1.0]}
    status, out, err = call("check", "tiny.yaml", contract=rules)
    lines = err.splitlines()
    assert status == 2
    assert out.startswith("column ")
    (row,) = [line for line in lines if "column price: wanted a number <= 5" in line]
    (whole,) = [line for line in lines if "all rows: column clicked: wanted a share of positives from 0.9 to 1" in line]
    assert whole
    evidence = row.rpartition("all are in ")[2]
    assert pq.read_metadata(evidence).num_rows > 0
    assert [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == [Path(evidence)]


def test_check_as_json(call):
    status, out, _ = call("check", "tiny.yaml", "--json")
    found = json.loads(out)
    assert (status, found["problems"], found["bad"]) == (0, [], 0)
    assert set(found["windows"]) >= {"start", "valid", "test", "end"}
    assert found["columns"]["clicked"]["distinct"] == 2
    assert found["log"]["rows"] == sum(found[name]["rows"] for name in ("train", "valid", "test"))
    status, out, err = call("check", "tiny.yaml", "--json", contract={"min_rows": 10**9})
    assert status == 2
    assert json.loads(out)["problems"] == err.splitlines()


def test_check_counts_what_is_left_out(call):
    rules = {"columns": {"price": {"max": 5}}, "max_quarantined": 1.0}
    status, out, _ = call("check", "tiny.yaml", contract=rules)
    assert status == 0
    assert "bad rows are left out (" in out.splitlines()[-1]

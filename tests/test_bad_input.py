"""Every kind of bad input through the command line: a clear line and status 2, or fine; nothing half-written."""

import datetime as dt
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import make_run

from recdistill.data import parts

OTHERS = ("day=2026-01-01", "day=2026-01-02")


@pytest.fixture
def log(tiny_log, tmp_path):
    """A copy of the tiny log that may be spoilt; its manifest, which would tell of any change, is left out."""
    folder = tmp_path / "log"
    shutil.copytree(tiny_log, folder, ignore=shutil.ignore_patterns("_*"))
    return folder


def file(log, number=2):
    return sorted(log.rglob("*.parquet"))[number]


def change(log, column, values, number=2, kind=None):
    """Rewrite a column of one file; values: of the rows from the first on, or a function of the column."""
    path = file(log, number)
    table = pq.read_table(path, partitioning=None)
    place = table.schema.get_field_index(column)
    if callable(values):
        new = values(table.column(column))
    else:
        new = pa.array([*values, *table.column(column).to_pylist()[len(values) :]], kind or table.schema.types[place])
    pq.write_table(table.set_column(place, column, new), path, write_page_checksum=True)


def flip(log):
    path = file(log)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(bytes(data))


def truncate(log):
    file(log).write_bytes(file(log).read_bytes()[:5000])


def empty_file(log):
    file(log).write_bytes(b"")


def no_column(log):
    pq.write_table(pq.read_table(file(log), partitioning=None).drop_columns(["price"]), file(log))


def other_type(log):
    change(log, "item_id", lambda column: column.cast(pa.string()))


def no_rows(log):
    pq.write_table(pq.read_table(file(log), partitioning=None).slice(0, 0), file(log))


def no_day(log):
    shutil.rmtree(file(log).parent)


def again(log):
    table = pq.read_table(file(log), partitioning=None)
    earlier = pq.read_table(file(log, 1), partitioning=None).slice(40, 3)
    pq.write_table(pa.concat_tables([table, earlier]), file(log))


def times(log, *moments):
    change(log, "timestamp", list(moments))


def at(*date):
    return dt.datetime(*date, tzinfo=dt.UTC)


def all_null(log):
    for number in range(6):
        change(log, "country", lambda column: pa.nulls(len(column), column.type), number)


def one_label(log):
    for number in range(6):
        change(log, "clicked", lambda column: pa.array([0] * len(column), column.type), number)


TOLD = {
    "a flipped bit": (flip, [], ["part-0000.parquet", "wanted"]),
    "a truncated file": (truncate, [], ["day=2026-01-03", "wanted a Parquet file"]),
    "a file of no bytes": (empty_file, [], ["day=2026-01-03", "wanted a Parquet file"]),
    "a column missing in one file": (no_column, [], ["day=2026-01-03", "column price", "found no such column"]),
    "another type in one file": (other_type, [], ["day=2026-01-03", "column item_id", "int64", "string"]),
    "an empty partition": (no_rows, [], ["day=2026-01-03", "found 0"]),
    "a missing day": (
        no_day,
        ["data.partition={column: day}", "data.contract.complete=true"],
        ["2026-01-03"],
    ),
    "duplicate events across files": (
        again,
        ["data.contract.unique=[request_id, position]"],
        ["day=2026-01-03", "request_id, position", "3 rows so"],
    ),
    "late events": (
        lambda log: times(log, at(2026, 1, 1, 4)),
        ["data.partition={column: day, lateness: 1h}"],
        ["day=2026-01-03", "row group 0: row 0: column timestamp", "found 2026-01-01 04:00"],
    ),
    "an event in the future": (
        lambda log: times(log, at(2199, 1, 1)),
        ["data.contract.max_future=1d"],
        ["day=2026-01-03", "row group 0: row 0: column timestamp", "found 2199"],
    ),
    "times in the wrong unit": (
        lambda log: change(
            log,
            "timestamp",
            lambda column: pa.array([t * 1000 for t in column.cast("int64").to_pylist()]).cast(column.type),
        ),
        [],
        ["day=2026-01-03", "row group 0: row 0: column timestamp", "years 1 to 9999"],
    ),
    "times of 1970": (
        lambda log: times(log, at(1970, 1, 21)),
        ["data.contract.earliest=2025-01-01"],
        ["day=2026-01-03", "row 0: column timestamp", "found 1970-01-21"],
    ),
    "a column of nulls": (all_null, [], ["feature country", "found only nulls"]),
    "a number that is none": (
        lambda log: change(log, "price", [1.0, float("nan"), float("inf")]),
        [],
        ["day=2026-01-03", "row group 0: row 1: column price", "wanted a finite number, found nan (2 rows so)"],
    ),
    "a list that is too long": (
        lambda log: change(log, "categories", [["books"], ["films"] * 10_000]),
        ["data.contract.columns={categories: {max_length: 8, nulls: true}}"],
        ["day=2026-01-03", "row group 0: row 1: column categories", "at most 8 elements"],
    ),
    "a label that is constant": (one_label, [], ["column clicked", "wanted labels of 0 and of 1", "found only 0"]),
}


@pytest.mark.parametrize("case", TOLD)
def test_it_is_told_in_a_line_with_status_2_and_nothing_is_half_written(call, log, tmp_path, case):
    spoil, overrides, words = TOLD[case]
    spoil(log)
    status, out, err = call("prepare", config(log, tmp_path), *overrides)
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if all(word in line for word in words)]
    assert lines, err
    assert ": wanted " in lines[0]
    assert "; " in lines[0], "a remedy"
    assert not any(day in line.split(": wanted ")[0] for line in lines for day in OTHERS), (
        "only the file that is spoilt"
    )
    assert not list((tmp_path / "run").glob("prepare-*"))
    assert not list(tmp_path.rglob(".unfinished-*"))


FINE = {
    "an extra column in one file": lambda log: pq.write_table(
        (table := pq.read_table(file(log), partitioning=None)).append_column("new", pa.array(range(len(table)))),
        file(log),
    ),
    "negative ids": lambda log: change(log, "item_id", [-1, -(2**63)]),
    "ids above 2**31": lambda log: change(log, "item_id", [2**31, 2**53 + 1, 2**63 - 1]),
    "unicode and empty strings": lambda log: change(log, "country", ["", "日本", "🇨🇭", "a\0b"]),
    "lists with nulls, empty ones and long ones": lambda log: change(
        log, "categories", [[None], [], None, ["books", None], ["films"] * 10_000]
    ),
    "numbers at the edge": lambda log: change(log, "price", [0.0, 1e38, 5e-324, None]),
}


@pytest.mark.parametrize("case", FINE)
def test_it_is_fine(call, log, tmp_path, case):
    FINE[case](log)
    status, _, err = call("prepare", config(log, tmp_path), "--quiet")
    assert status == 0, err
    about = json.loads((next((tmp_path / "run").glob("prepare-*")) / "data.json").read_text())
    assert sum(about[window]["rows"] for window in ("train", "valid", "test")) >= 6000
    assert list(about["extra"]) == (["new"] if "extra" in case else [])


def config(log, tmp_path):
    settings = make_run(log, tmp_path).model_dump(mode="json", exclude_none=True)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_bad_rows_within_the_limit_are_put_aside_and_the_rest_is_used(call, log, tmp_path):
    change(log, "price", [1.0, float("nan"), -4.0])
    status, out, _ = call("prepare", config(log, tmp_path), "data.contract.max_quarantined=0.001", "--quiet")
    assert status == 0
    lines = pq.read_table(f"{out.strip()}/quarantine.parquet").to_pylist()
    assert [(line["row"], line["column"], line["found"]) for line in lines] == [
        (1, "price", "nan"),
        (2, "price", "-4.0"),
    ]


def test_a_file_that_is_deleted_while_the_log_is_read_is_told(call, log, tmp_path, monkeypatch):
    read = parts._read_part

    def deleting(run, opened, one, *more):
        if one.name.startswith("day=2026-01-02"):
            file(log).unlink()
        return read(run, opened, one, *more)

    monkeypatch.setattr(parts, "_read_part", deleting)
    status, _, err = call("prepare", config(log, tmp_path), "--quiet")
    (line,) = err.splitlines()
    assert (status, "day=2026-01-03" in line) == (2, True)
    assert not list((tmp_path / "run").glob("prepare-*"))
    assert not list(tmp_path.rglob(".unfinished-*"))

"""What makes a log's columns and rows bad, a clear line each; and what the good ones become."""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from conftest import log_table, make_run, the_line, write_log

from recdistill.data.log.listing import open_log
from recdistill.data.log.values import stable_key
from recdistill.data.raw import check_columns, read_rows
from recdistill.problems import BadInput

NUM_ROWS = 40
NONE = np.empty(0, np.int64)
DAY_US, HOUR_US = 86_400_000_000, 3_600_000_000


def setup(tmp_path, *, sections=None, options=None, **columns):
    """A run and its opened log of one file whose columns are replaced."""
    write_log(tmp_path / "log", {"part.parquet": log_table(NUM_ROWS, **columns)}, **(options or {}))
    run = make_run(tmp_path / "log", tmp_path, **(sections or {}))
    return run, open_log(run.data.source)


def column_problems(tmp_path, **more):
    run, log = setup(tmp_path, **more)
    with pytest.raises(BadInput) as caught:
        check_columns(run, log)
    return caught.value.problems


def read(tmp_path, **more):
    run, log = setup(tmp_path, **more)
    check_columns(run, log)
    (rows,) = read_rows(run, log, NONE)
    return rows


def data(tmp_path, **more):
    """The data section of the tiny run with some settings replaced."""
    return {"data": {**make_run(tmp_path / "log", tmp_path).data.model_dump(mode="json"), **more}}


def spoilt(column, row, value):
    """The values of that column with one replaced."""
    values = log_table(NUM_ROWS).column(column).to_pylist()
    values[row] = value
    return pa.array(values, log_table(1).schema.field(column).type)


def test_a_missing_column_is_told_with_those_there_are(tmp_path):
    lines = column_problems(tmp_path, country=None, clicked=None)
    assert len(lines) == 2
    line = the_line(lines, "column country", "wanted such a column", "mend the config or the log")
    assert "only user_id, item_id, categories" in line
    the_line(lines, "column clicked")


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("price", pa.array(["1.5"] * NUM_ROWS), ["wanted a number", "found string"]),
        ("price", pa.array([[1.5]] * NUM_ROWS), ["wanted a number", "found list<"]),
        ("clicked", pa.array(["yes"] * NUM_ROWS), ["wanted a number", "found string"]),
        ("timestamp", pa.array(["2026-01-01"] * NUM_ROWS), ["wanted timestamps", "found string"]),
        ("timestamp", pa.array(range(NUM_ROWS)), ["wanted timestamps", "found int64", "data.time_unit"]),
        ("user_id", pa.array([1.0] * NUM_ROWS), ["wanted strings or whole numbers", "found double"]),
        ("item_id", pa.array([1.0] * NUM_ROWS), ["wanted strings or whole numbers", "found double"]),
        ("item_id", pa.array([[1]] * NUM_ROWS), ["wanted strings or whole numbers", "found list<"]),
        ("categories", pa.array(["books"] * NUM_ROWS), ["wanted a list", "found string", "drop max_values"]),
        ("request_id", pa.array([1.0] * NUM_ROWS), ["wanted strings or whole numbers", "found double"]),
    ],
)
def test_a_column_of_the_wrong_type_is_told(tmp_path, column, values, words):
    (line,) = column_problems(tmp_path, **{column: values})
    the_line([line], f"column {column}", *words)


def test_whole_numbers_of_time_want_a_unit_and_take_one(tmp_path):
    seconds = pa.array(range(1_700_000_000, 1_700_000_000 + NUM_ROWS))
    rows = read(tmp_path, timestamp=seconds, sections=data(tmp_path, time_unit="s"))
    assert rows.time[1] - rows.time[0] == 1_000_000
    assert rows.time[0] == 1_700_000_000_000_000


def test_negative_numbers_and_nulls_are_fine_where_no_logarithm_is_taken(tmp_path):
    features = make_run(tmp_path / "log", tmp_path).features.model_dump(mode="json")
    sections = {"features": {**features, "dense": ["price"]}}
    values = pa.array([None, -3.0] * (NUM_ROWS // 2))
    assert len(read(tmp_path, price=values, sections=sections).row_id) == NUM_ROWS


def test_a_log_without_rows_gives_none(tmp_path):
    write_log(tmp_path / "log", {"part.parquet": log_table(NUM_ROWS).slice(0, 0)})
    run = make_run(tmp_path / "log", tmp_path)
    assert sum(len(rows.row_id) for rows in read_rows(run, open_log(run.data.source), NONE)) == 0


def test_labels_are_the_column_or_its_comparison_with_a_threshold(tmp_path):
    stars = pa.array(np.arange(NUM_ROWS) % 5 + 1.0)
    rows = read(tmp_path, clicked=stars, sections=data(tmp_path, label={"column": "clicked", "at_least": 4}))
    assert rows.label.tolist() == [float(star >= 4) for star in stars.to_pylist()]
    assert rows.label.dtype == np.float32


@pytest.mark.parametrize("kind", [pa.bool_(), pa.uint8(), pa.float64(), pa.int64()])
def test_labels_of_any_numeric_type_are_the_same(tmp_path, kind):
    plain = log_table(NUM_ROWS).column("clicked")
    assert read(tmp_path, clicked=plain.cast(kind)).label.tolist() == plain.to_pylist()


@pytest.mark.parametrize(("every", "period"), [("day", DAY_US), ("hour", HOUR_US)])
def test_requests_of_a_period_are_those_of_user_and_period(tmp_path, every, period):
    hours = pa.array(1_700_000_000_000_000 + np.arange(NUM_ROWS) * HOUR_US // 3).cast(pa.timestamp("us"))
    rows = read(tmp_path, timestamp=hours, sections=data(tmp_path, request={"user_every": every}))
    keys = list(zip(rows.user.tolist(), (rows.time // period).tolist(), strict=True))
    pairs = set(zip(keys, rows.request.tolist(), strict=True))
    assert 4 < len(set(keys)) < NUM_ROWS
    assert len(pairs) == len(set(keys)) == len(set(rows.request.tolist()))


def test_requests_of_a_column_are_its_keys(tmp_path):
    rows = read(tmp_path)
    assert (rows.request == stable_key(pa.array(np.arange(NUM_ROWS) // 5))).all()


def test_a_data_window_takes_from_start_to_before_end_in_utc(tmp_path):
    midnight = int(datetime.fromisoformat("2026-01-02T00:00:00+00:00").timestamp()) * 10**6
    times = pa.array(midnight + (np.arange(NUM_ROWS) - 20) * HOUR_US).cast(pa.timestamp("us", tz="UTC"))
    for start in ("2026-01-02T00:00:00", "2026-01-02T00:00:00Z", "2026-01-02T02:00:00+02:00"):
        window = data(tmp_path, start=start, end="2026-01-02T05:00:00")
        assert read(tmp_path, timestamp=times, sections=window).row_id.tolist() == [20, 21, 22, 23, 24]


def test_row_ids_are_places_in_the_whole_log_whatever_the_window(tmp_path):
    table = log_table(NUM_ROWS)
    write_log(tmp_path / "log", {"a.parquet": table.slice(0, 15), "b.parquet": table.slice(15)})
    run = make_run(tmp_path / "log", tmp_path)
    parts = list(read_rows(run, open_log(run.data.source), NONE))
    assert np.concatenate([rows.row_id for rows in parts]).tolist() == list(range(NUM_ROWS))
    prices = [price for rows in parts for price in rows.columns.column("price").to_pylist()]
    assert prices == table.column("price").to_pylist()


def test_a_threshold_on_large_whole_numbers_is_exact(tmp_path):
    """Milliseconds watched: above 2**24 a float32 holds them no more."""
    watched = pa.array(20_000_000 + np.arange(NUM_ROWS))
    label = {"column": "clicked", "at_least": 20_000_007}
    rows = read(tmp_path, clicked=watched, sections=data(tmp_path, label=label))
    assert rows.label.tolist() == [float(row >= 7) for row in range(NUM_ROWS)]


@pytest.mark.parametrize("column", ["user_id", "item_id", "request_id"])
def test_ids_above_the_signed_range_are_ids(tmp_path, column):
    """64-bit hashes are written as uint64 by many."""
    values = pa.array([2**64 - 1 - row for row in range(NUM_ROWS)], pa.uint64())
    rows = read(tmp_path, **{column: values})
    assert len(rows.row_id) == NUM_ROWS
    if column == "user_id":
        assert len(set(rows.user.tolist())) == NUM_ROWS


def test_a_number_beyond_what_a_float_holds_is_taken_or_told(tmp_path):
    assert len(read(tmp_path, price=pa.array([2**60 + 1] * NUM_ROWS)).row_id) == NUM_ROWS


def test_a_column_with_two_roles_must_fit_both(tmp_path):
    features = make_run(tmp_path / "log", tmp_path).features.model_dump(mode="json")
    lines = column_problems(tmp_path, sections={"features": {**features, "dense": ["timestamp"]}})
    the_line(lines, "column timestamp", "wanted a number")


def test_a_list_column_is_no_outcome_of_a_past_event(tmp_path):
    features = {"ids": ["item_id"], "dense": [], "history": {"item": "item_id", "outcomes": ["categories"]}}
    lines = column_problems(tmp_path, sections={"features": features})
    the_line(lines, "column categories", "wanted numbers or strings", "found list<")

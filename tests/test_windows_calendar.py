"""Which windows there are and which are due, by partitions that are there, late or missing."""

import random
from datetime import datetime, timedelta

import pytest
from conftest import make_run, the_line
from pydantic import ValidationError

from recdistill.config.data import Data, Partition
from recdistill.config.windows import Windows
from recdistill.problems import BadInput
from recdistill.windows.calendar import held, standing, watermark, windows

DAYS = Partition(column="day")


def day(number, hour=0):
    return datetime.fromisoformat(f"2026-01-{number:02}T{hour:02}:00:00+00:00")


def cut(until, **settings):
    return list(windows(Windows(first=day(1), **settings), DAYS, until))


def test_windows_are_whole_partitions_that_the_log_reaches_the_end_of():
    found = cut(day(7), length=4)
    assert [(w.start, w.end) for w in found] == [(day(n), day(n + 4)) for n in (1, 2, 3)]
    assert [w.name for w in found] == ["2026-01-05T00", "2026-01-06T00", "2026-01-07T00"]
    assert [w.new for w in found] == [(day(1), day(2), day(3), day(4)), (day(5),), (day(6),)]
    assert cut(day(4, 23), length=4) == []


def test_months_and_hours_are_partitions_too():
    months = Partition(column="month", format="%Y-%m", length="month")
    found = list(
        windows(Windows(first=datetime(2025, 12, 1), length=3), months, datetime.fromisoformat("2026-04-01T00Z"))
    )
    assert [w.end.month for w in found] == [3, 4]
    hours = Partition(column="hour", format="%Y-%m-%dT%H", length="hour")
    found = list(windows(Windows(first=day(1), length=6, every=3, test=2), hours, day(1, 13)))
    assert [(w.end.hour, len(w.new)) for w in found] == [(6, 6), (9, 3), (12, 3)]


@pytest.mark.parametrize("shuffled", range(20))
def test_no_gap_and_no_overlap_of_what_is_new(shuffled):
    draw = random.Random(shuffled)
    length = draw.randint(3, 9)
    every = draw.randint(1, length)
    found = cut(day(1) + timedelta(days=30), length=length, every=every)
    new = [begin for window in found for begin in window.new]
    assert new == [day(1) + timedelta(days=n) for n in range(len(new))]
    assert len(found) > 1


def state(present, window=0, *, lateness="0d", length=3, partition=DAYS):
    settings = Windows(first=day(1), length=length, lateness=lateness)
    log = [day(n) for n in present]
    found = list(windows(settings, partition, watermark(partition, log)))
    return standing(settings, partition, found[window], log)


def test_a_window_is_due_once_its_partitions_are_there():
    assert state([1, 2, 3]) == "due"


def test_a_hole_is_waited_for_as_long_as_the_lateness_says_and_then_given_up():
    assert state([1, 3], lateness="1d") == "due"  # the log reaches the 4th: a day beyond the end of the 2nd
    assert state([1, 3], lateness="2d") == "waiting"
    assert state([1, 3, 4], lateness="2d") == "due"


def test_a_window_without_anything_new_is_skipped_when_that_is_given_up():
    assert state([1, 2, 3, 5], window=1, lateness="2d") == "waiting"
    assert state([1, 2, 3, 5, 6], window=1, lateness="2d") == "skipped"
    assert state([1, 2, 3, 5, 6], window=2, lateness="2d") == "due"


def test_late_rows_in_the_next_partition_are_waited_for():
    late = Partition(column="day", lateness="2h")
    assert state([1, 2, 3], lateness="1d", partition=late) == "waiting"
    assert state([1, 2, 3, 4], lateness="1d", partition=late) == "due"
    assert state([1, 2, 3, 5], lateness="0d", partition=late) == "due"


def test_the_log_says_what_it_holds(tmp_path):
    for name in (
        "day=2026-01-02/b.parquet",
        "day=2026-01-02/a.parquet",
        "day=2026-01-01/a.parquet",
        ".day=x/a.parquet",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    data = Data(source=str(tmp_path), partition=DAYS, time="t", user="u", label={"column": "l"})
    assert held(data) == {
        day(1): ("day=2026-01-01/a.parquet",),
        day(2): ("day=2026-01-02/a.parquet", "day=2026-01-02/b.parquet"),
    }
    (tmp_path / "stray.parquet").touch()
    with pytest.raises(BadInput) as caught:
        held(data)
    the_line(caught.value.problems, "stray.parquet", "mend data.partition or the path")


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"windows": {"first": "2026-01-01", "length": 2}}, "wanted length above valid \\+ test"),
        ({"data": {"partition": None}}, "no data.partition"),
        ({"data": {"start": "2026-01-01"}}, "data.start"),
        ({"data": {"split": {"train": 0.5}}}, "data.split"),
    ],
)
def test_windows_stand_alone(tmp_path, sections, says):
    plain = {"data": {"partition": {"column": "day"}, "split": {}}, "windows": {"first": "2026-01-01", "length": 3}}
    data = {**plain["data"], **sections.get("data", {})}
    with pytest.raises(ValidationError, match=says):
        make_run(tmp_path, tmp_path, data=data, windows=sections.get("windows", plain["windows"]))
    make_run(tmp_path, tmp_path, **plain)

"""Where logs lie: files, folders, globs and object stores; which partitions are opened; what is told of the rest."""

import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import Request, urlopen

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import log_table, the_line, write_log
from pyarrow import fs

from recdistill.config.data import Data, Partition
from recdistill.data.log import stores
from recdistill.data.log.listing import open_data, open_log
from recdistill.data.log.read import batches, read_groups, tables
from recdistill.problems import BadInput

DAYS = [f"day=2017-10-{day:02}/part-{part}.parquet" for day in range(1, 6) for part in range(2)]


def names(source, **options):
    return [file.name for file in open_log(str(source), **options).files]


def problems(source, **options):
    with pytest.raises(BadInput) as caught:
        open_log(str(source), **options)
    assert caught.value.problems
    return caught.value.problems


@pytest.fixture
def days(tmp_path):
    """Five days of two files, 3 rows each."""
    return write_log(tmp_path / "log", {name: log_table(3, seed=n) for n, name in enumerate(DAYS)})


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("day=2017-10-0[12]", DAYS[:4]),
        ("day=*/part-1.parquet", DAYS[1::2]),
        ("**/part-0.parquet", DAYS[::2]),
        ("*", DAYS),
        ("day=2017-10-05/*", [name.partition("/")[2] for name in DAYS[8:]]),
        ("day=2017-10-0?/part-0.*", DAYS[::2]),
    ],
)
def test_a_glob_takes_files_and_whole_folders(days, pattern, wanted):
    assert names(f"{days}/{pattern}") == wanted


def test_a_glob_never_takes_what_is_hidden_and_says_when_it_takes_nothing(days):
    write_log(days, {"_day=2017-10-01/part-0.parquet": log_table(3), ".x.parquet": log_table(3)})
    assert names(f"{days}/*") == names(days) == DAYS
    assert "no match" in the_line(problems(f"{days}/month=*"), "month=*")


def test_brackets_may_be_a_name(tmp_path):
    write_log(tmp_path / "a[1]", {"b*.parquet": log_table(3)})
    assert names(tmp_path / "a[1]") == names(tmp_path / "a[1]/b*.parquet") == ["b*.parquet"]


def test_a_relative_source_is_found_from_where_the_command_runs(days, monkeypatch):
    monkeypatch.chdir(days)
    assert names(".") == names("*") == DAYS
    assert names("day=2017-10-01/part-0.parquet") == ["part-0.parquet"]
    monkeypatch.chdir(days / "day=2017-10-01")
    assert names("part-0.parquet") == ["part-0.parquet"]
    assert names("part-*") == ["part-0.parquet", "part-1.parquet"]


def test_names_beyond_ascii_are_names_like_others(tmp_path):
    wanted = sorted(["stadt=Köln/日本 語.parquet", "stadt=Łódź/a b+c%.parquet"])
    write_log(tmp_path, {name: log_table(3) for name in wanted})
    log = open_log(str(tmp_path))
    assert [file.name for file in log.files] == wanted
    assert [file.partition for file in log.files] == [{"stadt": "Köln"}, {"stadt": "Łódź"}]
    assert sum(batch.num_rows for _, _, batch in batches(log, ["price"])) == 6


def test_files_of_other_kinds_are_passed_over_and_two_formats_are_not(days):
    (days / "README.md").write_text("about")
    (days / "rows.csv").write_text("a\n1\n")
    line = the_line(problems(days), "data.source")
    assert "wanted files of one format, found csv and parquet; give data.format" in line
    assert names(days, format="parquet") == DAYS
    assert names(days, format="csv") == ["rows.csv"]
    assert "wanted a folder of Arrow files" in the_line(problems(days, format="arrow"), "data.source")


def test_a_file_whose_name_tells_nothing_wants_a_format(days):
    (days / DAYS[0]).rename(days / "part")
    assert "part, whose name tells none; give data.format" in the_line(problems(days / "part"), "data.source")
    assert names(days / "part", format="parquet") == ["part"]
    assert names(f"{days}/par*", format="parquet") == ["part"]


def test_hive_keys_are_columns_of_strings(days):
    log = open_log(str(days))
    assert log.types["day"] == pa.string()
    assert log.files[3].partition == {"day": "2017-10-02"}
    found = pa.Table.from_batches([batch for _, _, batch in batches(log, ["price", "day"])])
    assert found.column_names == ["price", "day"]
    assert found["day"].to_pylist() == [f"2017-10-0{day}" for day in range(1, 6) for _ in range(6)]
    only = [table for _, _, table in tables(log, ["day"], max_rows=2)]
    assert sum(map(len, only)) == 30
    assert pa.concat_tables(t.cast(pa.schema([("day", pa.string())])) for t in only)["day"].equals(found["day"])
    where = (pa.compute.field("day") == "2017-10-04") & (pa.compute.field("price") > 0)
    parts = [read_groups(log, file, 0, 1, ["day", "item_id"], where=where) for file in log.files]
    assert [len(part) for part in parts] == [0] * 6 + [3, 3] + [0] * 2


def test_a_hive_key_that_is_also_a_column_is_the_column(tmp_path):
    write_log(tmp_path, {"day=1/a.parquet": log_table(3, day=pa.array([7, 8, 9]))})
    log = open_log(str(tmp_path))
    assert log.types["day"] == pa.int64()
    assert read_groups(log, log.files[0], 0, 1, ["day"], where=pa.compute.field("day") > 7)["day"].to_pylist() == [8, 9]


def at(day, hour=0):
    return datetime(2017, 10, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("lateness", "start", "end", "days_wanted"),
    [
        (0, at(2), at(4), [2, 3]),
        (0, at(2, 1), at(3, 1), [2, 3]),
        (0, None, at(2), [1]),
        (0, at(5), None, [5]),
        (0, None, None, [1, 2, 3, 4, 5]),
        (36, at(2), at(3), [2, 3, 4]),  # the 4th may hold events from noon of the 2nd on
        (24, at(2), at(3), [2, 3]),
    ],
)
def test_only_partitions_that_can_hold_events_of_the_window_are_opened(days, lateness, start, end, days_wanted):
    for name in DAYS:
        if int(name[12:14]) not in days_wanted:
            (days / name).write_bytes(b"never opened")
    partition = Partition(column="day", lateness=timedelta(hours=lateness))
    found = names(days, partition=partition, start=start, end=end)
    assert found == [name for name in DAYS if int(name[12:14]) in days_wanted]


def test_months_and_hours_are_partitions_too(tmp_path):
    write_log(tmp_path, {f"m={m}/h={h}/a.parquet": log_table(3) for m in ("2017-11", "2017-12") for h in ("05", "06")})
    month = Partition(column="m", format="%Y-%m", length="month")
    assert len(names(tmp_path, partition=month, start=datetime(2017, 12, 31))) == 2
    assert len(names(tmp_path, partition=month, end=datetime(2017, 12, 1))) == 2
    assert "4 files of others" in the_line(problems(tmp_path, partition=month, start=at(1).replace(year=2018)), "data")
    hour = Partition(column="h", format="%H", length="hour")
    assert len(names(tmp_path, partition=hour, start=datetime(1900, 1, 1, 6))) == 2


def test_a_value_that_does_not_parse_is_told_with_its_path_and_so_is_a_missing_key(days):
    write_log(days, {"day=soon/a.parquet": log_table(3), "hour=1/a.parquet": log_table(3)})
    lines = problems(days, partition=Partition(column="day"))
    assert len(lines) == 2
    assert "wanted day=%Y-%m-%d in the path, found 'soon'" in the_line(lines, f"{days}/day=soon/a.parquet")
    assert "found no such key in the path" in the_line(lines, f"{days}/hour=1/a.parquet")


def test_the_config_opens_the_same_log(days):
    data = Data(
        source=str(days),
        partition=Partition(column="day"),
        time="timestamp",
        user="user_id",
        label={"column": "clicked"},
        start=at(3),
    )
    assert [file.name for file in open_data(data, ["price"]).files] == DAYS[4:]


@pytest.mark.parametrize(
    ("source", "found"), [("ftp://a/b", "ftp://"), ("s3://", "no bucket"), ("gs:///", "no bucket")]
)
def test_an_address_of_another_kind_is_refused(source, found):
    assert f"found {found}; write s3://" in the_line(problems(source), source)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def _s3_port():
    """A real S3 server (moto's) in a process of its own."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    yield from _served(command, port)


@pytest.fixture(scope="module")
def _gcs_port():
    """A real Cloud Storage emulator in a process of its own."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("gcp-storage-emulator")), "start", "--host=127.0.0.1"]
    yield from _served([*command, f"--port={port}", "--in-memory", "--default-bucket=logs"], port)


def _served(command, port):
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < until, "no server"
            assert server.poll() is None, "it died"
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def s3(_s3_port, monkeypatch):
    """The file system of a bucket `logs`, empty, which the usual variables lead to."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{_s3_port}", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in {**address, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}.items():
        monkeypatch.setenv(name, value)
    store = fs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{_s3_port}", scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    store.create_dir("logs")
    store.delete_dir_contents("logs")
    return store


def put(store, folder, tables_by_name):
    for name, table in tables_by_name.items():
        with store.open_output_stream(f"{folder}/{name}") as out:
            pq.write_table(table, out, write_page_checksum=True, row_group_size=2)


def test_a_log_in_s3_is_the_log_on_disk(s3, days):
    put(s3, "logs/clicks", {name: log_table(3, seed=n) for n, name in enumerate(DAYS)})
    there, here = open_log("s3://logs/clicks"), open_log(str(days))
    assert [f.name for f in there.files] == DAYS
    assert there.num_rows == here.num_rows == 30
    columns = ["price", "country", "day"]
    one, other = (
        pa.concat_tables(pa.Table.from_batches([b]) for _, _, b in batches(x, columns)) for x in (there, here)
    )
    assert one.combine_chunks().equals(other.combine_chunks())
    assert [len(read_groups(there, file, 1, 1, ["price"])) for file in there.files] == [1] * 10
    assert names("s3://logs/clicks/day=*2") == DAYS[2:4]
    assert names("s3://logs/clicks/day=2017-10-01/part-0.parquet") == ["part-0.parquet"]
    assert names("s3://logs/clicks/", partition=Partition(column="day"), start=at(5)) == DAYS[8:]


def test_an_object_that_is_replaced_or_deleted_is_told(s3):
    put(s3, "logs/x", {"a.parquet": log_table(3), "b.parquet": log_table(3)})
    log = open_log("s3://logs/x")
    put(s3, "logs/x", {"a.parquet": log_table(4)})
    s3.delete_file("logs/x/b.parquet")
    for file, found in zip(log.files, ("a file that changed", "no such file"), strict=True):
        with pytest.raises(BadInput, match=f"{file.path}: wanted readable rows, found {found}"):
            list(tables(log, ["price"], max_rows=10, files=[file]))


def test_a_bucket_or_prefix_that_is_not_there_is_nothing_there(s3):
    for source in ("s3://nobody/x", "s3://logs/nothing", "s3://logs"):
        assert "nothing" in (line := the_line(problems(source), source)) or "an empty one" in line


def test_a_store_that_cannot_be_reached_is_one_line_soon(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    line = the_line(problems("s3://logs/x"), "data.source s3://logs/x: wanted a place that can be read")
    assert line.endswith("check the address, AWS_ENDPOINT_URL, the network")


def test_a_store_that_never_answers_is_given_up(s3, monkeypatch):
    monkeypatch.setattr(stores, "_STALL_S", 1)
    monkeypatch.setattr(stores, "_ATTEMPTS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begin = time.monotonic()
        the_line(problems("s3://logs/x"), "Timeout was reached", "check the address")
        assert time.monotonic() - begin < 20


def ask_for_credentials(port, after):
    """From how many requests on the server knows its users, of which there are none."""
    plain = {"Content-Type": "text/plain"}
    with urlopen(Request(f"http://127.0.0.1:{port}/moto-api/reset-auth", after.encode(), plain)) as answer:
        assert answer.status == 200


def test_a_store_that_denies_is_told_to_have_done_so(s3, _s3_port):
    put(s3, "logs/x", {"a.parquet": log_table(3)})
    ask_for_credentials(_s3_port, "0")
    try:
        line = the_line(problems("s3://logs/x"), "data.source s3://logs/x: wanted a place that can be read")
    finally:
        ask_for_credentials(_s3_port, "inf")
    assert line.endswith("mend the AWS_* credentials or the rights")
    assert names("s3://logs/x") == ["a.parquet"]


def test_a_log_in_cloud_storage_is_the_log_on_disk(_gcs_port, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{_gcs_port}")
    put(stores.gcs(), "logs/clicks", {name: log_table(3, seed=n) for n, name in enumerate(DAYS)})
    log = open_log("gs://logs/clicks")
    assert [file.name for file in log.files] == DAYS
    assert sum(len(table) for _, _, table in tables(log, ["price", "day"], max_rows=2)) == 30
    assert names("gs://logs/clicks/day=*2") == DAYS[2:4]
    assert "nothing there" in the_line(problems("gs://logs/none"), "gs://logs/none")

"""Which files a log is, what makes it none, and the same keys for the same values of any type."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import log_table, the_line, write_log
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data import logs
from recdistill.data.logs import batches, family, microseconds, open_log, plain_ids, stable_key
from recdistill.problems import BadInput


def problems(source):
    with pytest.raises(BadInput) as caught:
        open_log(str(source))
    return caught.value.problems


def read(log, *columns):
    return pa.Table.from_batches([batch for _, _, batch in batches(log, list(columns))])


def test_a_log_is_its_files_in_order_of_their_names(tmp_path):
    write_log(tmp_path, {"day=02/b.parquet": log_table(3), "day=01/z.parquet": log_table(5)})
    log = open_log(str(tmp_path))
    assert [(f.name, f.first_row, f.num_rows) for f in log.files] == [
        ("day=01/z.parquet", 0, 5),
        ("day=02/b.parquet", 5, 3),
    ]
    assert log.num_rows == 8
    assert log.types["categories"] == pa.list_(pa.string())


def test_hidden_files_and_folders_are_no_part_of_a_log(tmp_path):
    write_log(tmp_path, {"a.parquet": log_table(3), "_tmp/a.parquet": log_table(3), ".b.parquet": log_table(3)})
    (tmp_path / "manifest.json").write_text("{}")
    assert [f.name for f in open_log(str(tmp_path)).files] == ["a.parquet"]


def test_a_single_file_is_a_log_and_a_folder_above_may_be_hidden(tmp_path):
    write_log(tmp_path / ".cache", {"a.parquet": log_table(3)})
    assert open_log(str(tmp_path / ".cache/a.parquet")).num_rows == 3
    assert open_log(str(tmp_path / ".cache")).num_rows == 3


def test_the_fingerprint_is_of_contents_and_names_not_of_the_place(tmp_path):
    one = write_log(tmp_path / "one", {"a.parquet": log_table(3)})
    shutil.copytree(one, tmp_path / "copy")
    prints = [open_log(str(tmp_path / name)).fingerprint for name in ("one", "copy")]
    write_log(tmp_path / "one", {"a.parquet": log_table(3, seed=1)})
    write_log(tmp_path / "copy", {"b.parquet": log_table(3)})
    prints += [open_log(str(tmp_path / name)).fingerprint for name in ("one", "copy")]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_nothing_at_all_and_an_empty_folder_are_told_apart(tmp_path):
    assert "nothing there" in the_line(problems(tmp_path / "none"), "none")
    (tmp_path / "empty").mkdir()
    line = the_line(problems(tmp_path / "empty"), "empty")
    assert "found an empty one; mend data.source, or make a log with `recdistill synth`" in line


@pytest.mark.parametrize("damage", ["truncated", "zero bytes", "junk", "no footer"])
def test_a_file_that_is_no_parquet_is_named_and_the_others_are_not(tmp_path, damage):
    write_log(tmp_path, {"a.parquet": log_table(50), "b.parquet": log_table(50), "c.parquet": log_table(50)})
    path = tmp_path / "b.parquet"
    whole = path.read_bytes()
    contents = {
        "truncated": whole[: len(whole) // 2],
        "zero bytes": b"",
        "junk": b"junk" * 500,
        "no footer": whole[:-8],
    }
    path.write_bytes(contents[damage])
    (line,) = problems(tmp_path)
    assert line.startswith(f"{path}: wanted a Parquet file, found ")
    assert line.endswith("; restore the file or take it out of the log")
    assert "\n" not in line


def test_every_unreadable_file_is_told_at_once(tmp_path):
    write_log(tmp_path, {"a.parquet": log_table(3)})
    for name in ("b", "c"):
        (tmp_path / f"{name}.parquet").write_bytes(b"")
    assert len(problems(tmp_path)) == 2


def test_files_of_two_minds_are_told_column_by_column(tmp_path):
    other = log_table(3, clicked=None, price=pa.array(["1", "2", "3"]), extra=np.zeros(3))
    write_log(tmp_path, {"a.parquet": log_table(3), "b.parquet": other})
    lines = problems(tmp_path)
    assert len(lines) == 2  # a column more is no problem
    the_line(lines, "b.parquet: column clicked", "wanted int8 as in a.parquet", "found no such column")
    the_line(lines, "b.parquet: column price", "wanted double as in a.parquet", "found string")


@pytest.mark.parametrize("column", ["price", "item_id", "clicked"])
def test_a_flipped_bit_is_found_where_page_checksums_were_written(tmp_path, tiny_log, column):
    path = sorted(tiny_log.rglob("*.parquet"))[2]
    log = tmp_path / "log"
    log.mkdir()
    group = pq.read_metadata(path).row_group(0)
    (chunk,) = [c for i in range(group.num_columns) if (c := group.column(i)).path_in_schema == column]
    damaged = bytearray(path.read_bytes())
    damaged[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0b100
    (log / "part.parquet").write_bytes(damaged)
    with pytest.raises(BadInput) as caught:
        read(open_log(str(log)), column)
    line = the_line(caught.value.problems, "part.parquet", "wanted readable rows")
    assert "restore the file" in line


def test_rows_come_in_order_with_their_places_whatever_the_batches(tmp_path, monkeypatch):
    table = log_table(25)
    write_log(tmp_path, {"a.parquet": table.slice(0, 11), "b.parquet": table.slice(11)}, row_group_size=4)
    monkeypatch.setattr(logs, "ROWS_PER_BATCH", 3)
    log = open_log(str(tmp_path))
    seen = [(file.first_row + first, batch.num_rows) for file, first, batch in batches(log, ["item_id"])]
    assert len(seen) >= 9
    assert seen == [(sum(n for _, n in seen[:i]), seen[i][1]) for i in range(len(seen))]
    assert read(log, "price", "item_id").to_pydict() == table.select(["price", "item_id"]).to_pydict()


def test_a_file_that_changes_its_mind_after_it_was_opened_is_bad_input(tmp_path):
    write_log(tmp_path, {"a.parquet": log_table(3)})
    log = open_log(str(tmp_path))
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(BadInput, match=r"a\.parquet: wanted readable rows"):
        read(log, "price")


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (pa.uint8(), "id"),
        (pa.bool_(), "id"),
        (pa.large_string(), "id"),
        (pa.dictionary(pa.int32(), pa.string()), "id"),
        (pa.large_list(pa.int64()), "ids"),
        (pa.list_(pa.float32()), "something else"),
        (pa.decimal128(5, 2), "number"),
        (pa.timestamp("ns", tz="UTC"), "time"),
        (pa.struct([("a", pa.int64())]), "something else"),
        (pa.binary(), "something else"),
    ],
)
def test_family(kind, wanted):
    assert family(kind) == wanted


@given(st.lists(st.integers(-100, 100), min_size=1))
def test_equal_whole_numbers_have_equal_keys_and_ids_in_every_type(values):
    wanted = stable_key(pa.array(values, pa.int64()))
    assert len(np.unique(wanted)) == len(set(values))
    for kind in (pa.int8(), pa.int16(), pa.int32()):
        assert (stable_key(pa.array(values, kind)) == wanted).all()
        assert plain_ids(pa.array(values, kind)).equals(pa.array(values, pa.int64()))
    assert (stable_key(pa.array(values).dictionary_encode()) == wanted).all()


@given(st.lists(st.text(max_size=4), min_size=1))
def test_equal_strings_have_equal_keys_whatever_stands_beside_them(values):
    wanted = stable_key(pa.array(values, pa.string()))
    assert len(np.unique(wanted)) == len(set(values))
    assert (stable_key(pa.array(values, pa.large_string())) == wanted).all()
    assert (stable_key(pa.array(values).dictionary_encode()) == wanted).all()
    assert (stable_key(pa.array([*values, "x"]).slice(1)) == np.r_[wanted[1:], stable_key(pa.array(["x"]))]).all()


def test_large_ids_do_not_go_through_floats():
    values = pa.array([2**53, 2**53 + 1, 2**62, 2**62 + 1, -(2**62)])
    assert len(np.unique(stable_key(values))) == 5
    assert plain_ids(values).equals(values)


def splitmix(value):
    """The finaliser of SplitMix64 (Steele et al., OOPSLA 2014), as a signed number."""
    z = value % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    z ^= z >> 31
    return z - 2**64 if z >= 2**63 else z


def test_keys_of_numbers_are_a_published_hash():
    """A key that changed would move every user to another history."""
    values = [0, 3, -1, 2**62 + 1]
    assert stable_key(pa.array(values)).tolist() == [splitmix(value) for value in values]


def test_keys_of_strings_are_the_same_in_every_process():
    code = (
        "import pyarrow as pa; from recdistill.data.logs import stable_key\n"
        "print(stable_key(pa.array(['a', 'é'])).tolist())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert other.stdout.strip() == str(stable_key(pa.array(["a", "é"])).tolist()), other.stderr


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_whole_numbers_of_a_unit_are_the_instants_of_timestamps(unit):
    moment = pa.array([1_700_000_000, 0, -5]).cast(pa.timestamp("s"))
    numbers = moment.cast(pa.timestamp(unit)).cast(pa.int64())
    assert microseconds(numbers, unit).tolist() == [1_700_000_000_000_000, 0, -5_000_000]


def test_an_instant_is_one_whatever_its_type_and_zone():
    moment = pa.array([1_700_000_000_000_123]).cast(pa.timestamp("us", tz="UTC"))
    berlin, nanoseconds = moment.cast(pa.timestamp("us", tz="Europe/Berlin")), moment.cast(pa.timestamp("ns", tz="UTC"))
    for values in (moment, berlin, nanoseconds):
        assert microseconds(values, None).tolist() == [1_700_000_000_000_123]
        assert microseconds(values, "s").tolist() == [1_700_000_000_000_123]  # a unit does not change timestamps
    assert microseconds(pa.array([2]).cast(pa.int32()).cast(pa.date32()), None).tolist() == [2 * 86_400_000_000]

"""What a log is: its files in order, whole, readable, alike in the columns that are read, or told by name."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from conftest import log_table, the_line, write_log

from recdistill.data.log.formats import parquet
from recdistill.data.log.listing import open_log
from recdistill.data.log.read import batches, tables
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


CHANGES = {
    "string": log_table(3)["item_id"].cast(pa.string()),
    "int32": log_table(3)["item_id"].cast(pa.int32()),
    "double": log_table(3)["item_id"].cast(pa.float64()),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("odd", "ac")
def test_a_type_that_one_file_changes_is_told_of_that_file(tmp_path, kind, odd):
    files = {f"{name}.parquet": log_table(3) for name in "abc"}
    files[f"{odd}.parquet"] = log_table(3, item_id=CHANGES[kind])
    write_log(tmp_path, files)
    for columns in (None, ["item_id", "price"]):
        with pytest.raises(BadInput) as caught:
            open_log(str(tmp_path), columns=columns)
        line = the_line(caught.value.problems, f"{odd}.parquet: column item_id: wanted int64 as in ")
        assert f"found {kind};" in line
    log = open_log(str(tmp_path), columns=["price"])
    assert "item_id" not in log.types
    assert len(read(log, "price")) == 9
    with pytest.raises(BadInput, match="column item_id: wanted one that every file has alike"):
        read(log, "item_id")


def test_a_column_that_one_file_lacks_matters_where_it_is_read(tmp_path):
    write_log(tmp_path, {"a.parquet": log_table(3), "b.parquet": log_table(3, price=None), "c.parquet": log_table(3)})
    with pytest.raises(BadInput) as caught:
        open_log(str(tmp_path), columns=["price"])
    line = the_line(caught.value.problems, "b.parquet: column price: wanted double as in a.parquet")
    assert "found no such column" in line
    log = open_log(str(tmp_path), columns=["item_id"])
    assert log.extra == {"price": ["a.parquet", "c.parquet"]}
    with pytest.raises(BadInput) as caught:
        open_log(str(tmp_path), columns=["item_id", "colour", "day"])
    assert len(caught.value.problems) == 2
    the_line(caught.value.problems, "column colour: wanted such a column, found only user_id, item_id")


def test_a_column_more_in_one_file_is_reported_and_never_read(tmp_path):
    write_log(tmp_path, {"a.parquet": log_table(3), "b.parquet": log_table(3, colour=np.zeros(3))})
    log = open_log(str(tmp_path))
    assert log.extra == log.to_json()["extra"] == {"colour": ["b.parquet"]}
    assert "colour" not in log.types
    with pytest.raises(BadInput, match="column colour: wanted one that every file has alike"):
        next(tables(log, ["colour"], max_rows=3))


def test_an_absurd_row_group_is_refused_before_it_is_read(tmp_path, monkeypatch):
    write_log(tmp_path, {"a.parquet": log_table(1000, zeros=np.zeros(1000))})
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 1000)
    assert "row group 0 of " in the_line(problems(tmp_path), "a.parquet: wanted a Parquet file")

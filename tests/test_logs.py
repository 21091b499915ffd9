"""Which files a log is, what makes it none, and its rows: in order, divided among ranks, by groups, in every format."""

import gzip
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from conftest import log_table, the_line, write_log

from recdistill.data.log import read as logs
from recdistill.data.log.formats import csv, parquet
from recdistill.data.log.listing import open_log
from recdistill.data.log.read import batches, read_groups, shard, tables
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


NARROW = ["user_id", "item_id", "country", "price", "timestamp", "clicked"]


def whole(log, columns, max_rows=7):
    """A log's rows as `tables` gives them, spelt out."""
    schema = pa.schema([(name, log.types[name]) for name in columns])
    return pa.concat_tables(table.cast(schema) for _, _, table in tables(log, columns, max_rows=max_rows))


def write_as(form, folder, files):
    folder.mkdir(exist_ok=True)
    for name, table in files.items():
        if form == "parquet":
            pq.write_table(table, folder / f"{name}.parquet", row_group_size=10)
        elif form in ("arrow", "feather"):
            feather.write_feather(table, folder / f"{name}.{form}", chunksize=10)
        elif form == "csv.gz":
            with gzip.open(folder / f"{name}.csv.gz", "wb") as out:
                pacsv.write_csv(table, out)
        else:
            options = pacsv.WriteOptions(delimiter="\t" if form == "tsv" else ",")
            pacsv.write_csv(table, folder / f"{name}.{form}", options)
    return str(folder)


@pytest.mark.parametrize("form", ["parquet", "arrow", "feather", "csv", "csv.gz", "tsv"])
def test_the_same_rows_come_from_every_format(tmp_path, form):
    table = log_table(43).select(NARROW)
    log = open_log(write_as(form, tmp_path / "log", {"a": table.slice(0, 25), "b": table.slice(25)}))
    groups = [(25,), (18,)] if log.format == "csv" else [(10, 10, 5), (10, 8)]
    assert [file.row_groups for file in log.files] == groups
    assert [file.first_row for file in log.files] == [0, 25]
    wanted = table.cast(pa.schema([(name, log.types[name]) for name in NARROW]))
    assert whole(log, NARROW).equals(wanted)
    assert read(log, *NARROW).combine_chunks().equals(wanted)
    assert read(log, "price", "user_id").column_names == ["price", "user_id"]
    parts = [read_groups(log, f, n, 1, NARROW) for f in log.files for n in range(len(f.row_groups))]
    assert pa.concat_tables(parts).equals(wanted)
    assert open_log(log.source).fingerprint == log.fingerprint


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv"])
def test_a_filter_may_name_columns_that_are_not_read(tmp_path, form):
    table = log_table(43).select(NARROW)
    log = open_log(write_as(form, tmp_path / "log", {"a": table}))
    (file,) = log.files
    where = (pc.field("item_id") < 10) & (pc.field("country") == "at")
    found = read_groups(log, file, 0, len(file.row_groups), ["price"], where=where)
    assert 0 < len(found) < 43
    assert found["price"].to_pylist() == table.filter(where)["price"].to_pylist()


def test_groups_that_cannot_match_are_not_read(tmp_path):
    """Damage there goes unseen: their pages were never touched."""
    write_log(tmp_path, {"a.parquet": log_table(30, item_id=np.arange(30))}, row_group_size=10)
    log = open_log(str(tmp_path))
    path = tmp_path / "a.parquet"
    chunk = pq.read_metadata(path).row_group(0).column(4)
    damaged = bytearray(path.read_bytes())
    damaged[chunk.dictionary_page_offset + chunk.total_compressed_size // 2] ^= 1
    path.write_bytes(damaged)
    log = open_log(str(tmp_path))
    read_late = read_groups(log, log.files[0], 0, 3, ["price"], where=pc.field("item_id") >= 20)
    assert len(read_late) == 10
    with pytest.raises(BadInput, match=r"a\.parquet: wanted readable rows"):
        read_groups(log, log.files[0], 0, 3, ["price"], where=pc.field("item_id") < 20)


def test_tables_are_consecutive_runs_of_one_file(tmp_path):
    table = log_table(50)
    write_log(tmp_path, {"a.parquet": table.slice(0, 33), "b.parquet": table.slice(33)}, row_group_size=10)
    seen = list(tables(open_log(str(tmp_path)), ["price"], max_rows=15))
    assert all(len(found) <= 15 for _, _, found in seen)
    assert [f.first_row + first for f, first, _ in seen] == [
        sum(len(t) for *_, t in seen[:n]) for n in range(len(seen))
    ]
    assert pa.concat_tables(found for *_, found in seen).equals(table.select(["price"]))


def test_strings_that_are_few_come_as_dictionaries_and_others_do_not(tmp_path):
    unlike = pa.array([f"session {n} of a long name" for n in range(500)])
    write_log(tmp_path, {"a.parquet": log_table(500, session=unlike)})
    log = open_log(str(tmp_path))
    (found,) = [table for _, _, table in tables(log, ["country", "session"], max_rows=1000)]
    assert pa.types.is_dictionary(found["country"].type)
    assert found["session"].type == log.types["country"] == log.types["session"] == pa.string()
    assert found["country"].to_pylist() == log_table(500)["country"].to_pylist()
    assert read(log, "country")["country"].type == pa.string()


def test_dictionaries_and_large_strings_are_read_as_they_are(tmp_path):
    texts = pa.array(["x", None, "y"] * 10)
    columns = {"few": texts.dictionary_encode(), "large": texts.cast(pa.large_string())}
    for form in ("parquet", "arrow"):
        log = open_log(write_as(form, tmp_path / form, {"a": log_table(30, **columns), "b": log_table(30, **columns)}))
        assert log.types["few"] == pa.dictionary(pa.int32(), pa.string())
        assert log.types["large"] == pa.large_string()
        for name in columns:
            assert whole(log, [name])[name].to_pylist() == texts.to_pylist() * 2
            assert read(log, name)[name].to_pylist() == texts.to_pylist() * 2
            groups = [read_groups(log, file, 0, 3, [name]) for file in log.files]
            assert [value for group in groups for value in group[name].to_pylist()] == texts.to_pylist() * 2


def test_a_value_that_is_no_text_is_refused_even_inside_a_dictionary(tmp_path):
    words = pa.array(["spam", "eggs", "spam"])
    for form, kept in (("parquet", words), ("arrow", words), ("arrow", words.dictionary_encode())):
        source = write_as(form, tmp_path / "log", {"a": pa.table({"word": kept})})
        (path,) = (tmp_path / "log").iterdir()
        path.write_bytes(path.read_bytes().replace(b"spam", b"s\xffam"))
        with pytest.raises(BadInput, match=r"wanted .*, found .*(UTF8|UTF-8)"):
            read(open_log(source), "word")
        path.unlink()


def test_a_file_that_gives_other_rows_than_its_footer_says_is_refused(tmp_path):
    log = open_log(str(write_log(tmp_path, {"a.parquet": log_table(9)}, row_group_size=3)))
    (file,) = log.files
    lying = replace(file, num_rows=10, row_groups=(3, 3, 4))
    with pytest.raises(BadInput, match="wanted readable rows, found 9 rows instead of 10"):
        read(replace(log, files=(lying,)), "price")
    with pytest.raises(BadInput, match="wanted readable rows, found 3 rows instead of 4"):
        read_groups(log, lying, 2, 1, ["price"])


@pytest.mark.parametrize("world", range(1, 9))
def test_shards_cover_every_row_group_once_and_are_balanced(tmp_path, world):
    sizes = {f"{n}.parquet": log_table(rows) for n, rows in enumerate((0, 95, 7, 0, 240, 33))}
    log = open_log(str(write_log(tmp_path, sizes, row_group_size=10)))
    shards = [shard(log, rank, world) for rank in range(world)]
    groups = [(f.name, n) for parts in shards for f, first, num in parts for n in range(first, first + num)]
    assert groups == [(f.name, n) for f in log.files for n in range(len(f.row_groups))]
    loads = [sum(sum(f.row_groups[first : first + num]) for f, first, num in parts) for parts in shards]
    assert max(loads) - min(loads) <= 2 * 10
    parts = [read_groups(log, *part, ["price"]) for parts in shards for part in parts]
    assert pa.concat_tables(parts).equals(whole(log, ["price"]))


def test_three_groups_serve_three_of_eight_ranks(tmp_path):
    log = open_log(str(write_log(tmp_path, {"a.parquet": log_table(30)}, row_group_size=10)))
    shards = [shard(log, rank, 8) for rank in range(8)]
    assert sorted(part[1:] for parts in shards for part in parts) == [(0, 1), (1, 1), (2, 1)]
    assert all(len(parts) <= 1 for parts in shards)


def test_files_without_rows_have_their_place(tmp_path):
    sizes = {"a": 0, "b": 5, "c": 0, "d": 4, "e": 0}
    write_log(tmp_path, {f"{name}.parquet": log_table(n) for name, n in sizes.items()})
    log = open_log(str(tmp_path))
    assert [file.first_row for file in log.files] == [0, 0, 5, 5, 9]
    assert len(read(log, "price")) == 9
    empty = open_log(str(tmp_path / "a.parquet"))
    assert (empty.num_rows, list(tables(empty, ["price"], max_rows=3))) == (0, [])
    assert [part[2] for rank in range(3) for part in shard(empty, rank, 3)] in ([], [1])


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


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_an_extension_type_that_nobody_knows_is_refused(tmp_path, form):
    about = {b"ARROW:extension:name": b"evil.pickle", b"ARROW:extension:metadata": b"x"}
    field = pa.field("odd", pa.binary(), metadata=about)
    table = log_table(3).append_column(field, pa.array([b"a", b"b", b"c"]))
    line = the_line(problems(write_as(form, tmp_path / "log", {"a": table})), "column odd", "evil.pickle")
    assert "wanted a type of Arrow itself" in line


def test_a_column_name_that_stands_twice_is_refused(tmp_path):
    table = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    for form in ("parquet", "arrow", "csv"):
        the_line(problems(write_as(form, tmp_path / form, {"x": table})), "found a column name that stands twice")


def test_an_absurd_row_group_is_refused_before_it_is_read(tmp_path, monkeypatch):
    write_log(tmp_path, {"a.parquet": log_table(1000, zeros=np.zeros(1000))})
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 1000)
    assert "row group 0 of " in the_line(problems(tmp_path), "a.parquet: wanted a Parquet file")


def csv_log(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    return str(folder)


def test_the_first_file_with_rows_says_what_a_csv_column_is(tmp_path):
    source = csv_log(tmp_path, a="n,when,who,none\n", b="n,when,who,none\n1,2017-10-01 00:00:00,NA,\n", c="who,n\n,2\n")
    log = open_log(source, columns=["n", "who"])
    assert log.types == {"n": pa.int64(), "who": pa.string()}
    assert log.extra == {"when": ["a.csv", "b.csv"], "none": ["a.csv", "b.csv"]}
    assert whole(log, ["who", "n"]).to_pylist() == [{"who": "NA", "n": 1}, {"who": None, "n": 2}]
    one = open_log(f"{source}/b.csv")
    assert one.types["when"] == pa.timestamp("us")
    assert one.types["none"] == pa.string()


def test_a_bad_value_of_a_csv_is_told_with_its_row_and_column(tmp_path):
    source = csv_log(
        tmp_path, a="n,m\n1,2\n", b="n,m\n" + "1,2\n" * 70 + "1,two\n", c="n,m\n1,2\n1,2,3\n", d="n,m\n1,0.5\n"
    )
    lines = problems(source)
    assert len(lines) == 3
    assert "found row 70: column m: CSV conversion error to int64: invalid value 'two'" in the_line(lines, "b.csv")
    assert "found row 1: CSV parse error: Expected 2 columns, got 3" in the_line(lines, "c.csv")
    the_line(lines, "d.csv", "row 0: column m")
    assert len(read(open_log(f"{source}/[ab].csv", columns=["n"]), "n")) == 72


def test_text_in_quotes_may_hold_lines_and_separators(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "_BLOCK_BYTES", 12)  # the first text goes on in the next block
    log = open_log(csv_log(tmp_path, a='t,n\n"one, two\nthree",1\n"é",2\n'))
    assert log.num_rows == 2
    assert whole(log, ["t"])["t"].to_pylist() == ["one, two\nthree", "é"]


def test_a_csv_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"")
    (tmp_path / "b.csv.gz").write_bytes(b"no gzip")
    (tmp_path / "c.csv").write_bytes("a\nna\xefve\n".encode("latin-1"))
    (tmp_path / "d.csv").write_text("a\nb\n")
    lines = problems(tmp_path)
    assert len(lines) == 3
    the_line(lines, "a.csv: wanted a CSV file, found Empty CSV file")
    the_line(lines, "b.csv.gz: wanted a CSV file")
    the_line(lines, "c.csv: wanted a CSV file", "invalid UTF8")

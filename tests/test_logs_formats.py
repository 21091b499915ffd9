"""The same rows out of every format, and what each of them refuses."""

import gzip

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from conftest import log_table, the_line

from recdistill.data.log.formats import csv
from recdistill.data.log.listing import open_log
from recdistill.data.log.read import batches, read_groups, tables
from recdistill.problems import BadInput


def problems(source):
    with pytest.raises(BadInput) as caught:
        open_log(str(source))
    return caught.value.problems


def read(log, *columns):
    return pa.Table.from_batches([batch for _, _, batch in batches(log, list(columns))])


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

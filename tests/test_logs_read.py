"""A log's rows: in order, in bounded memory, from exactly the files it was opened with; shares for ranks."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import log_table, the_line, write_log

from recdistill.data.log import read as logs
from recdistill.data.log.listing import open_log
from recdistill.data.log.read import batches, read_groups, shard, tables
from recdistill.problems import BadInput


def read(log, *columns):
    return pa.Table.from_batches([batch for _, _, batch in batches(log, list(columns))])


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


def whole(log, columns, max_rows=7):
    """A log's rows as `tables` gives them, spelt out."""
    schema = pa.schema([(name, log.types[name]) for name in columns])
    return pa.concat_tables(table.cast(schema) for _, _, table in tables(log, columns, max_rows=max_rows))


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


def test_row_groups_with_dictionaries_of_their_own_come_together(tmp_path):
    """Each row group of 100 holds other words than the one before it, in a dictionary of its own."""
    words = pa.array([f"a word of group {row // 100} and {row % 3}" for row in range(1000)])
    write_log(tmp_path, {"a.parquet": pa.table({"word": words})}, row_group_size=100)
    found = [(first, table) for _, first, table in tables(open_log(str(tmp_path)), ["word"], max_rows=250)]
    assert [first for first, _ in found] == [0, 250, 500, 750]
    for first, table in found:
        assert table["word"].num_chunks == 1
        assert pa.types.is_dictionary(table["word"].type)
        assert table["word"].to_pylist() == words[first : first + 250].to_pylist()


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

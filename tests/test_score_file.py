"""score-file keeps every row and column, adds the bundle's scores, and leaves a whole file or none."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from serve_world import TYPES, make_bundle, random_rows
from test_serve_scorer import whole_rows

from recdistill import score_file as module
from recdistill.data.encoder import Encoder
from recdistill.problems import BadInput
from recdistill.score_file import score_file


@pytest.fixture(scope="module")
def bundle(tiny_prepared, tmp_path_factory):
    return make_bundle(tiny_prepared, tmp_path_factory.mktemp("bundle") / "student-0")


@pytest.fixture(scope="module")
def rows(bundle):
    return random_rows(Encoder.open(bundle / "encoder").needed, 2500, seed=5)


@pytest.fixture(scope="module")
def table(rows):
    """The request's columns, and two that nobody asks for."""
    schema = pa.schema([(name, TYPES[name]) for name in rows[0]])
    found = pa.Table.from_pylist(rows, schema=schema)
    return found.append_column("note", pa.array([f"n{n}" for n in range(len(rows))])).append_column(
        "nested", pa.array([{"a": n} for n in range(len(rows))])
    )


def test_all_rows_and_columns_are_kept_in_order_and_scored(bundle, rows, table, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_GROUP", 1100)  # several record batches, the last one short
    said = table.replace_schema_metadata({"from": "somewhere"})
    pq.write_table(said, tmp_path / "in.parquet", row_group_size=700)
    done = score_file(bundle, tmp_path / "in.parquet", tmp_path / "out" / "scored.parquet")
    found = pq.read_table(tmp_path / "out" / "scored.parquet", page_checksum_verification=True)
    assert done.rows == found.num_rows == len(rows)
    assert found.drop_columns(["score"]).equals(table)
    assert found.schema.metadata == {b"from": b"somewhere"}
    assert np.abs(found.column("score").to_numpy() - whole_rows(bundle, rows)).max() < 1e-6
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scored.parquet"]


def test_a_folder_of_files_and_dictionaries_score_as_one_plain_file(bundle, rows, table, tmp_path):
    place = table.schema.get_field_index("country")
    coded = table.set_column(place, "country", table.column("country").dictionary_encode())
    (tmp_path / "in").mkdir()
    pq.write_table(coded.slice(0, 1000), tmp_path / "in" / "a.parquet")
    pq.write_table(coded.slice(1000), tmp_path / "in" / "b.parquet")
    score_file(bundle, tmp_path / "in", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert np.abs(found.column("score").to_numpy() - whole_rows(bundle, rows)).max() < 1e-6


def test_whole_numbers_that_lie_close_are_written_as_differences_all_else_as_by_default(bundle, table, tmp_path):
    more = {"close": [7, 7 + 2**32 - 1], "apart": [7, 7 + 2**32], "no_number": [None, None], "listed": [[-1, 2], None]}
    for name, values in more.items():
        table = table.append_column(name, pa.array([values[n % 2] for n in range(len(table))]))
    pq.write_table(table, tmp_path / "in.parquet")
    score_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet")
    group = pq.ParquetFile(tmp_path / "out.parquet").metadata.row_group(0)
    columns = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
    packed = {path for path, column in columns.items() if "DELTA_BINARY_PACKED" in column.encodings}
    assert {"close", "listed.list.element", "nested.a"} <= packed
    assert not {"apart", "no_number", "note", "price", "country"} & packed
    assert all(column.has_dictionary_page for path, column in columns.items() if path not in {*packed, "score"})
    assert (
        pq.read_table(tmp_path / "out.parquet").drop_columns(["score"]).equals(pq.read_table(tmp_path / "in.parquet"))
    )


def test_files_of_different_columns_are_not_one(bundle, table, tmp_path):
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(table.drop_columns(["note"]), tmp_path / "b.parquet")
    with pytest.raises(BadInput, match=r"b\.parquet: wanted the columns and types of a\.parquet"):
        score_file(bundle, tmp_path, tmp_path / "out" / "out.parquet")


def test_no_rows_give_a_file_without_rows(bundle, table, tmp_path):
    pq.write_table(table.slice(0, 0), tmp_path / "in.parquet")
    assert score_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet").rows == 0
    assert pq.read_schema(tmp_path / "out.parquet").names == [*table.schema.names, "score"]


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_left(bundle, table, tmp_path):
    bad = table.drop_columns(["price", "country"]).append_column("score", pa.array([0.0] * len(table)))
    pq.write_table(bad, tmp_path / "in.parquet")
    with pytest.raises(BadInput) as error:
        score_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert len(error.value.problems) == 3
    with pytest.raises(BadInput, match="Parquet"):
        score_file(bundle, tmp_path / "none.parquet", tmp_path / "out.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "in.parquet").read_bytes()[:-100])
    with pytest.raises(BadInput, match="Parquet"):
        score_file(bundle, tmp_path / "cut.parquet", tmp_path / "out.parquet")
    assert not list(tmp_path.glob("*out*"))


def test_a_flipped_bit_is_seen_and_a_file_that_was_there_stays(bundle, table, tmp_path):
    pq.write_table(table, tmp_path / "in.parquet", write_page_checksum=True, compression="none", use_dictionary=False)
    (tmp_path / "out.parquet").write_bytes(b"earlier")
    data = bytearray((tmp_path / "in.parquet").read_bytes())
    at = data.index(np.array(table.column("price").to_pylist()[-3:], dtype=np.float64)[-1:].tobytes())
    data[at] ^= 1
    (tmp_path / "in.parquet").write_bytes(data)
    with pytest.raises(BadInput, match=r"CRC|corrupt|checksum"):
        score_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == b"earlier"


def test_a_model_without_numbers_writes_nothing(tiny_prepared, rows, table, tmp_path):
    folder = make_bundle(tiny_prepared, tmp_path / "bundle", scale=1e18, golden=0)
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(BadInput, match="do not use this model"):
        score_file(folder, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_the_command_says_what_it_did(bundle, table, tmp_path, call):
    pq.write_table(table, tmp_path / "in.parquet")
    status, out, _ = call("score-file", bundle, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert status == 0
    assert "2,500 rows" in out


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows_and_a_kill_leaves_no_file(bundle, table, tmp_path):
    large = pa.concat_tables([table.drop_columns(["nested"])] * 40)
    for name, times in (("one", 4), ("many", 24)):
        with pq.ParquetWriter(tmp_path / f"{name}.parquet", large.schema) as file:
            for _ in range(times):
                file.write_table(large)
    code = (
        "import resource, sys; from pathlib import Path; from recdistill.score_file import score_file\n"
        "score_file(*map(Path, sys.argv[1:])); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def start(name):
        command = [sys.executable, "-c", code, bundle, tmp_path / f"{name}.parquet", tmp_path / f"{name}-out.parquet"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    peaks = {name: int(start(name).communicate()[0]) / 1024 for name in ("one", "many")}
    assert peaks["many"] < peaks["one"] + 60, peaks
    (tmp_path / "many-out.parquet").unlink()
    with start("many") as process:
        while not list(tmp_path.glob(".unfinished-*")):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "many-out.parquet").exists()

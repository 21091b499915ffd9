"""An .npy file written piece by piece holds, for numpy, what all pieces are together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.npy import NpyWriter
from recdistill.data.store import record_type

KINDS = {
    "int64": np.dtype(np.int64),
    "int8": np.dtype(np.int8),
    "float32": np.dtype(np.float32),
    "bool": np.dtype(bool),
    "big-endian": np.dtype(">i4"),
    "blocks": np.dtype((np.void, 5)),
    "record": record_type(3, 2),
    "long record": record_type(1000, 1),
    "many fields": np.dtype([(f"a field with a long name, number {n}", "<f4", (n + 1,)) for n in range(100)]),
}


def rows_of(kind, num, seed=0):
    """Random bytes as rows; bools of 0 and 1."""
    found = np.random.default_rng(seed).integers(0, 2 if kind.kind == "b" else 256, num * kind.itemsize, dtype=np.uint8)
    return found.view(kind) if num else np.empty(0, dtype=kind)


def write(path, kind, pieces):
    writer = NpyWriter(path, kind)
    for piece in pieces:
        writer.add(piece)
    writer.close()
    return writer


@pytest.mark.parametrize("name", KINDS)
@given(sizes=st.lists(st.integers(0, 40), max_size=6), seed=st.integers(0, 99))
def test_pieces_come_back_as_one_array(tmp_path_factory, name, sizes, seed):
    kind, path = KINDS[name], tmp_path_factory.mktemp("npy") / "x.npy"
    rows = rows_of(kind, sum(sizes), seed)
    writer = write(path, kind, np.split(rows, np.cumsum(sizes)))
    assert writer.num_rows == len(rows)
    assert path.stat().st_size == writer.room + len(rows) * kind.itemsize
    assert writer.room % 64 == 0  # rows are aligned when the file is mapped into memory
    for found in (np.load(path), np.load(path, mmap_mode="r")):
        assert (found.dtype, found.shape) == (kind, (len(rows),))
        assert found.tobytes() == rows.tobytes()


def test_rows_are_written_whatever_their_strides_and_in_the_type_of_the_file(tmp_path):
    table = np.arange(20, dtype=np.int64).reshape(4, 5)
    write(tmp_path / "x.npy", np.dtype(np.float32), [table[:, 1], table[2][::-1], np.array([7])])
    assert np.load(tmp_path / "x.npy").tolist() == [1.0, 6.0, 11.0, 16.0, 14.0, 13.0, 12.0, 11.0, 10.0, 7.0]


def test_a_file_that_was_not_closed_cannot_be_read(tmp_path):
    writer = NpyWriter(tmp_path / "x.npy", np.dtype(np.int64))
    writer.add(np.arange(5000))
    writer.file.flush()
    with pytest.raises(ValueError, match="pickle"):
        np.load(tmp_path / "x.npy")
    writer.close()
    assert np.load(tmp_path / "x.npy").sum() == 4999 * 5000 // 2

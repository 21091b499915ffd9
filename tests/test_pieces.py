"""Tensors cut in pieces by one number of processes and put together by another are the tensors they were."""

import itertools

import pytest
import torch

from recdistill.problems import BadInput
from recdistill.train.engine.pieces import Piece, Stored, pieces, write_pieces

TABLE = torch.arange(35.0).view(7, 5)


def cut(rows, columns, tensor=TABLE):
    """One piece per rank: the parts between the cuts along rows and columns."""
    found = []
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            part = tensor[top:bottom, left:right].clone()
            found.append(Piece(name="table", tensor=part, offset=(top, left), whole=tuple(tensor.shape), shared=False))
    return found


WAYS = {
    "whole": ([0, 7], [0, 5]),
    "rows": ([0, 3, 7], [0, 5]),
    "columns": ([0, 7], [0, 1, 5]),
    "both": ([0, 2, 3, 7], [0, 4, 5]),
}


@pytest.mark.parametrize("to", WAYS)
@pytest.mark.parametrize("by", WAYS)
def test_any_way_of_sharding_is_read_by_any_other(tmp_path, by, to):
    for rank, piece in enumerate(cut(*WAYS[by])):
        write_pieces(tmp_path, [piece], rank)
    stored = Stored(tmp_path)
    assert torch.equal(stored.whole("table"), TABLE)
    assert torch.equal(stored.mapped("")["table"], TABLE)
    wanted, empty = cut(*WAYS[to]), cut(*WAYS[to], tensor=torch.zeros(7, 5))
    for piece, right in zip(empty, wanted, strict=True):
        stored.fill(piece)
        assert torch.equal(piece.tensor, right.tensor)


def test_what_all_processes_share_is_written_once_and_what_they_do_not_by_each(tmp_path):
    for rank in range(3):
        own = [piece.owned() for piece in pieces({"random": torch.tensor([rank])}, f"rank{rank}.")]
        write_pieces(tmp_path, [*pieces({"bias": torch.tensor([1.5])}), *own], rank)
    stored = Stored(tmp_path)
    assert len(stored.entries["bias"]) == 1
    assert [stored.whole(f"rank{rank}.random").item() for rank in range(3)] == [0, 1, 2]
    assert stored.wholes("rank2.").keys() == {"random"}


def test_numbers_of_all_types_and_shapes_come_back_in_memory_of_their_own(tmp_path):
    held = {
        "scalar": torch.tensor(2.5),
        "count": torch.tensor(7),
        "half": torch.tensor([1.0, 3.0]).bfloat16(),
        "bytes": torch.tensor([0, 255], dtype=torch.uint8),
        "view": torch.arange(6.0).view(2, 3).t(),
        "none": torch.zeros(0, 4),
    }
    write_pieces(tmp_path, pieces(held), rank=0)
    found = Stored(tmp_path).wholes("")
    assert found.keys() == held.keys()
    for name, value in held.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)
    mapped = Stored(tmp_path).mapped("")
    assert mapped.keys() == held.keys()
    assert all(torch.equal(mapped[name], value) for name, value in held.items())
    found["half"][0] = 9  # the file stays as it is
    assert Stored(tmp_path).whole("half")[0] == 1


@pytest.mark.parametrize("size", [(7, 4), (8, 5), (7,)])
def test_another_shape_is_refused_with_both(tmp_path, size):
    write_pieces(tmp_path, cut(*WAYS["rows"]), rank=0)
    live = pieces({"table": torch.zeros(size)})[0]
    with pytest.raises(BadInput, match=r"table: wanted a tensor of shape .*, found \(7, 5\); remove the folder"):
        Stored(tmp_path).fill(live)


def test_a_part_that_is_missing_is_refused(tmp_path):
    write_pieces(tmp_path, cut(*WAYS["rows"])[:1], rank=0)
    with pytest.raises(BadInput, match="table: wanted a tensor of shape"):
        Stored(tmp_path).whole("table")


def test_views_are_of_live_memory_and_copies_are_not():
    table = torch.zeros(3)
    live = pieces({"table": table})[0]
    copy = live.copied()
    table += 1
    assert live.tensor.tolist() == [1, 1, 1]
    assert copy.tensor.tolist() == [0, 0, 0]

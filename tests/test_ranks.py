"""As many steps on every rank, every row once, and a share of each that makes the mean over ranks that over rows."""

import itertools

import numpy as np
import pytest
from test_loop import rows

from recdistill.data.batches import Batches, Position
from recdistill.train.engine.ranks import any_of, of_first, total, turns

START = Position()


def epoch(num_rows, batch_size, world, position=START, num=1):
    """Per rank, the turns of so many epochs from a position on."""
    found = []
    for rank in range(world):
        batches = Batches(rows=rows(num_rows), batch_size=batch_size, shuffle="rows", seed=4, rank=rank, world=world)
        coming = turns(batches, position)
        found.append(list(itertools.takewhile(lambda turn: turn.position.epoch < position.epoch + num, coming)))
    return found


@pytest.mark.parametrize("num_rows", [1, 7, 24, 25, 26, 60])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_every_rank_does_as_many_steps_and_every_row_counts_once(num_rows, world):
    ranks = epoch(num_rows, 6, world)
    assert {len(turns) for turns in ranks} == {-(-num_rows // (6 * world))}
    counted = [turn.batch.row_id.tolist() for turns in ranks for turn in turns if turn.share]
    assert sorted(itertools.chain(*counted)) == list(range(num_rows))
    for step in zip(*ranks, strict=True):
        assert len({turn.position for turn in step}) == len({turn.num_rows for turn in step}) == 1
        assert sum(len(turn.batch) for turn in step if turn.share) == step[0].num_rows


@pytest.mark.parametrize("num_rows", [7, 25])
def test_shares_make_the_mean_over_ranks_the_mean_over_rows(num_rows):
    """Of the row numbers, as if they were losses."""
    for step in zip(*epoch(num_rows, 6, 2), strict=True):
        every = np.concatenate([turn.batch.row_id for turn in step if turn.share])
        means = [turn.share * turn.batch.row_id.double().mean().item() for turn in step]
        assert np.mean(means) == pytest.approx(every.mean())


@pytest.mark.parametrize("world", [1, 2])
def test_from_a_position_on_turns_are_those_that_were_left(world):
    whole = epoch(25, 3, world, num=2)
    for done in range(len(whole[0])):
        position = whole[0][done].position
        for rank, left in enumerate(epoch(25, 3, world, position, num=2 - position.epoch)):
            wanted = whole[rank][done + 1 :]
            assert [turn.batch.row_id.tolist() for turn in left] == [turn.batch.row_id.tolist() for turn in wanted]
            assert [turn.position for turn in left] == [turn.position for turn in wanted]


def test_without_rows_there_are_no_turns():
    assert list(turns(Batches(rows=rows(0), batch_size=3), Position())) == []


def test_one_process_agrees_with_itself():
    assert total(2.5, 1) == of_first(2.5, 1) == 2.5
    assert any_of(True, 1)
    assert not any_of(False, 1)

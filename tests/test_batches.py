"""The stream of batches: each row once an epoch over all ranks, whole requests where asked, from any position on."""

import itertools
from dataclasses import fields

import numpy as np
import pytest
import torch
from conftest import small_layout
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.batches import Batches, Position
from recdistill.data.scores import StoredScores
from recdistill.data.store import Rows, record_type
from recdistill.types import Batch

SHUFFLES = ["rows", "requests", None]
LAYOUT = small_layout()


def store(num_rows, largest=7, seed=0):
    """Random rows; requests of 1 to `largest` rows, whose rows do not lie together."""
    generator = np.random.default_rng(seed)
    records = np.zeros(num_rows, dtype=record_type(5, 1))
    sizes = generator.integers(1, largest + 1, num_rows)
    request = np.repeat(generator.permutation(10 * num_rows)[: len(sizes)] - num_rows, sizes)[:num_rows]
    records["request"] = generator.permutation(request) if num_rows else request
    records["row_id"] = 1000 + 3 * np.arange(num_rows)
    records["label"] = generator.integers(0, 2, num_rows)
    records["offset"] = generator.random(num_rows)
    records["ids"] = generator.integers(0, 5, (num_rows, 5))
    records["dense"] = generator.random((num_rows, 1))
    records["past"] = np.sort(generator.integers(0, 40, (num_rows, 2)), axis=1)
    events = {f.name: generator.integers(2, 4, 40).astype(np.int32) for f in LAYOUT.histories}
    return Rows(layout=LAYOUT, records=records, events=events)


ROWS = store(700)


def order(batches, epoch=0):
    return torch.cat([batch.row_id for batch in batches.epoch(epoch)])


def every_rank(world, epoch=0, first=0, **settings):
    """Per rank, the row numbers of its batches."""
    readers = [Batches(rank=rank, world=world, **settings) for rank in range(world)]
    return [[batch.row_id.tolist() for batch in reader.epoch(epoch, first)] for reader in readers]


def equal(one, other):
    """Whether two batches are the same to the bit."""
    both = [
        (getattr(one, field.name), getattr(other, field.name))
        for field in fields(Batch)
        if field.name not in ("teacher", "tasks")
    ]
    both.append((one.teacher.logit, other.teacher.logit))
    return len(both) == 8 and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in both)


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("batch_size", [1, 5, 97, 700, 10_000])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_an_epoch_holds_each_row_once_over_all_ranks(shuffle, batch_size, world):
    for epoch in (0, 4):
        ranks = every_rank(world, epoch, rows=ROWS, batch_size=batch_size, shuffle=shuffle, seed=2)
        found = [row for batches in ranks for batch in batches for row in batch]
        assert len(found) == 700
        assert sorted(found) == sorted(ROWS["row_id"].tolist())
        assert all(batch for batches in ranks for batch in batches)


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 8), st.sampled_from(SHUFFLES), st.integers(0, 2**31 - 1))
def test_so_it_does_for_few_rows(num_rows, batch_size, world, shuffle, seed):
    ranks = every_rank(world, 1, rows=store(num_rows), batch_size=batch_size, shuffle=shuffle, seed=seed)
    found = [row for batches in ranks for batch in batches for row in batch]
    assert sorted(found) == [1000 + 3 * n for n in range(num_rows)]


@pytest.mark.parametrize("shuffle", ["rows", None])
@pytest.mark.parametrize("world", [2, 3, 8])
def test_ranks_share_out_what_one_reader_would_have_read_in_a_step(shuffle, world):
    (alone,) = every_rank(1, 3, rows=ROWS, batch_size=12 * world, shuffle=shuffle)
    ranks = every_rank(world, 3, rows=ROWS, batch_size=12, shuffle=shuffle)
    for step, whole in enumerate(alone):
        parts = [batches[step] for batches in ranks if step < len(batches)]
        assert sorted(row for part in parts for row in part) == sorted(whole)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert len(alone) == max(map(len, ranks)) > 5


@pytest.mark.parametrize("shuffle", ["rows", "requests"])
def test_the_same_seed_and_epoch_give_the_same_order_and_others_another(shuffle):
    def of(seed, epoch):
        return order(Batches(rows=ROWS, batch_size=64, shuffle=shuffle, seed=seed), epoch)

    assert torch.equal(of(1, 0), of(1, 0))
    cases = [of(seed, epoch) for seed, epoch in itertools.product((0, 1, 2, 2**31 - 1), (0, 1, 2))]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(cases, 2))


def test_an_epoch_does_not_depend_on_those_before_it():
    batches = Batches(rows=ROWS, batch_size=64, shuffle="rows")
    later = order(batches, 1)
    order(batches, 0)
    next(iter(batches.epoch(5)))
    assert torch.equal(order(batches, 1), later)


def test_without_a_shuffle_rows_come_as_they_are_stored():
    for epoch in (0, 1):
        assert order(Batches(rows=ROWS, batch_size=33, seed=7), epoch).tolist() == ROWS["row_id"].tolist()


def test_rows_are_shuffled_not_batches():
    """The rows of a batch come from all over the window: their numbers, 3 apart, differ by a third of it on average."""
    batch = next(Batches(rows=ROWS, batch_size=256, shuffle="rows").epoch(0))
    assert batch.row_id.diff().abs().float().mean() == pytest.approx(3 * 700 / 3, rel=0.15)


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 3), (2, 3)])
@pytest.mark.parametrize("batch_size", [32, 90])
def test_a_stream_goes_on_from_any_position_to_the_bit(shuffle, rank, world, batch_size):
    teacher = StoredScores(logit=np.random.default_rng(5).random(700, dtype=np.float32))
    settings = {
        "batch_size": batch_size,
        "shuffle": shuffle,
        "seed": 4,
        "teacher": teacher,
        "rank": rank,
        "world": world,
    }
    undisturbed = list(itertools.islice(Batches(rows=ROWS, **settings).stream(Position()), 60))
    assert {position.epoch for position, _ in undisturbed} >= {0, 1, 2}
    assert undisturbed[0][0] == Position(epoch=0, batch=1)
    for done, (position, _) in enumerate(undisturbed[:-7]):
        restored = Batches(rows=store(700), **settings).stream(position)  # as another process would
        for (here, batch), (there, same) in zip(restored, undisturbed[done + 1 : done + 7], strict=False):
            assert here == there
            assert equal(batch, same)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_a_stream_is_its_epochs_one_after_the_other(shuffle):
    batches = Batches(rows=ROWS, batch_size=150, shuffle=shuffle, seed=1)
    expected = [batch.row_id.tolist() for epoch in (3, 4, 5) for batch in batches.epoch(epoch)]
    found = list(itertools.islice(batches.stream(Position(epoch=3)), len(expected)))
    assert [batch.row_id.tolist() for _, batch in found] == expected
    numbers = [(position.epoch, position.batch) for position, _ in found]
    assert numbers == sorted(set(numbers))
    assert all(number >= 1 for _, number in numbers)


@pytest.mark.parametrize("shuffle", SHUFFLES)
@given(first=st.integers(0, 30), world=st.integers(1, 4), batch_size=st.integers(20, 200))
def test_an_epoch_from_a_batch_on_is_the_rest_of_it(shuffle, first, world, batch_size):
    whole = every_rank(world, 2, rows=ROWS, batch_size=batch_size, shuffle=shuffle)
    rest = every_rank(world, 2, first, rows=ROWS, batch_size=batch_size, shuffle=shuffle)
    assert rest == [batches[first:] for batches in whole]


@pytest.mark.parametrize("world", [1, 3])
def test_whole_requests_stay_in_one_batch(world):
    size_of = dict(zip(*np.unique(ROWS["request"], return_counts=True), strict=True))
    assert max(size_of.values()) > 5
    seen, sizes = set(), []
    for rank in range(world):
        for batch in Batches(rows=ROWS, batch_size=60, shuffle="requests", rank=rank, world=world).epoch(0):
            here = set(batch.request.tolist())
            assert not here & seen
            assert len(batch) == sum(size_of[request] for request in here)
            seen |= here
            sizes.append(len(batch))
    assert seen == set(size_of)
    assert max(sizes) <= 60
    assert sorted(sizes)[1] > 60 - max(size_of.values())  # full up to a request, but for the last


def test_a_request_larger_than_a_batch_is_a_batch_of_its_own():
    rows = store(300, largest=40)
    batches = list(Batches(rows=rows, batch_size=10, shuffle="requests").epoch(0))
    large = [batch for batch in batches if len(batch) > 10]
    assert len(large) > 3
    assert all(len(batch.request.unique()) == 1 for batch in large)


@pytest.mark.parametrize("shuffle", ["rows", None])
@pytest.mark.parametrize("batch_size", [1, 97, 350, 10**6])
def test_batches_are_full_but_for_the_last(shuffle, batch_size):
    sizes = [len(batch) for batch in Batches(rows=ROWS, batch_size=batch_size, shuffle=shuffle).epoch(0)]
    assert len(sizes) == -(-700 // batch_size)
    assert set(sizes[:-1]) <= {batch_size}
    assert 0 < sizes[-1] <= batch_size


@pytest.mark.parametrize("index", [[9, 2, 2, 40], [7], []])
def test_a_batch_is_what_the_store_holds_in_the_types_that_models_want(index):
    logit, index = StoredScores(logit=np.arange(700, dtype=np.float32)), np.array(index, dtype=np.int64)
    batch = Batches(rows=ROWS, batch_size=4, teacher=logit).batch(index)
    assert (batch.ids.numpy() == ROWS.ids(index)).all()
    assert (batch.dense.numpy() == ROWS.dense(index)).all()
    for name in ("label", "offset", "request", "row_id"):
        assert (getattr(batch, name).numpy() == ROWS[name][index]).all()
    assert batch.teacher.logit.tolist() == index.tolist()
    assert batch.weight.tolist() == [1.0] * len(index)
    kinds = {"ids": torch.int64, "request": torch.int64, "row_id": torch.int64}
    for name in ("ids", "dense", "label", "weight", "offset", "request", "row_id"):
        tensor = getattr(batch, name)
        assert tensor.dtype == kinds.get(name, torch.float32), name
        assert tensor.is_contiguous(), name
    assert Batches(rows=ROWS, batch_size=4).batch(index).teacher is None


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_a_teachers_logit_stays_with_its_row(shuffle):
    logit = StoredScores(logit=(ROWS["row_id"] * 0.5).astype(np.float32))
    batches = list(Batches(rows=ROWS, batch_size=64, shuffle=shuffle, teacher=logit, rank=1, world=2).epoch(3))
    assert len(batches) > 3
    for batch in batches:
        assert torch.equal(batch.teacher.logit, batch.row_id * 0.5)


@pytest.mark.parametrize("batch_size", [1, 64])
def test_a_batch_may_be_changed_without_changing_the_store(batch_size):
    rows = store(100)
    before = rows.records.tobytes()
    for batch in Batches(rows=rows, batch_size=batch_size).epoch(0):
        for name in ("ids", "dense", "label", "weight", "offset", "request", "row_id"):
            getattr(batch, name).fill_(9)
    assert rows.records.tobytes() == before

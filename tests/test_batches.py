"""The stream of batches: each row once an epoch, whole requests where asked, and the same again for the same seed."""

import itertools

import numpy as np
import pytest
import torch

from recdistill.data.batches import Batches
from recdistill.data.store import open_rows

SHUFFLES = ["rows", "requests", None]


@pytest.fixture(scope="module")
def rows(tiny_prepared):
    return open_rows(tiny_prepared, "train")


def order(batches, epoch=0):
    return torch.cat([batch.row_id for batch in batches.epoch(epoch)])


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("batch_size", [1000, 97, 5])
def test_an_epoch_holds_each_row_once(rows, shuffle, batch_size):
    found = order(Batches(rows=rows, batch_size=batch_size, shuffle=shuffle))
    assert torch.equal(found.sort().values, torch.from_numpy(np.sort(rows["row_id"])))
    assert len(found) > 4000


@pytest.mark.parametrize("shuffle", ["rows", "requests"])
def test_the_same_seed_and_epoch_give_the_same_order_and_others_another(rows, shuffle):
    def of(seed, epoch):
        return order(Batches(rows=rows, batch_size=256, shuffle=shuffle, seed=seed), epoch)

    assert torch.equal(of(1, 0), of(1, 0))
    cases = [of(seed, epoch) for seed, epoch in [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(cases, 2))


def test_an_epoch_does_not_depend_on_those_before_it(rows):
    batches = Batches(rows=rows, batch_size=256, shuffle="rows")
    later = order(batches, 1)
    order(batches, 0)
    next(iter(batches.epoch(5)))
    assert torch.equal(order(batches, 1), later)


def test_without_a_shuffle_rows_come_as_they_are_stored(rows):
    assert torch.equal(order(Batches(rows=rows, batch_size=33)), torch.from_numpy(np.array(rows["row_id"])))


def test_rows_are_shuffled_not_batches(rows):
    """The rows of a batch come from all over the window."""
    batch = next(Batches(rows=rows, batch_size=256, shuffle="rows").epoch(0))
    assert batch.row_id.diff().abs().float().mean() > len(rows) / 10


def test_whole_requests_stay_in_one_batch(rows):
    sizes = []
    seen = set()
    for batch in Batches(rows=rows, batch_size=100, shuffle="requests").epoch(0):
        here = set(batch.request.tolist())
        assert not here & seen
        seen |= here
        sizes.append(len(batch))
    assert len(seen) > 300
    assert max(sizes) <= 100
    assert min(sizes[:-1]) > 100 - 12  # full up to a request


def test_a_request_larger_than_a_batch_is_a_batch_of_its_own(rows):
    for batch in Batches(rows=rows, batch_size=5, shuffle="requests").epoch(0):
        assert len(batch.request.unique()) == 1
        assert len(batch) > 5


@pytest.mark.parametrize("batch_size", [1, 97, 4200, 10**6])
def test_batches_are_full_but_for_the_last(rows, batch_size):
    index = [len(part) for part in Batches(rows=rows, batch_size=batch_size)._indices(np.random.default_rng(0))]
    assert len(index) == -(-len(rows) // batch_size)
    assert set(index[:-1]) <= {batch_size}
    assert 0 < index[-1] <= batch_size


def test_a_batch_is_what_the_store_holds_in_the_types_that_models_want(rows):
    logit = np.arange(len(rows), dtype=np.float32)
    index = np.array([9, 2, 2, 40])
    batch = Batches(rows=rows, batch_size=4, teacher=logit).batch(index)
    assert (batch.ids.numpy() == rows.ids(index)).all()
    assert (batch.dense.numpy() == rows.dense(index)).all()
    for name in ("label", "request", "row_id"):
        assert (getattr(batch, name).numpy() == rows[name][index]).all()
    assert batch.teacher.logit.tolist() == [9.0, 2.0, 2.0, 40.0]
    assert batch.weight.tolist() == [1.0] * 4
    assert (batch.ids.dtype, batch.dense.dtype, batch.label.dtype) == (torch.int64, torch.float32, torch.float32)
    assert Batches(rows=rows, batch_size=4).batch(index).teacher is None


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_a_teachers_logit_stays_with_its_row(rows, shuffle):
    logit = (np.array(rows["row_id"]) * 0.5).astype(np.float32)
    for batch in Batches(rows=rows, batch_size=512, shuffle=shuffle, teacher=logit).epoch(3):
        assert torch.equal(batch.teacher.logit, batch.row_id * 0.5)


def test_a_batch_may_be_changed_without_changing_the_store(rows):
    batches = Batches(rows=rows, batch_size=64)
    first = next(batches.epoch(0))
    before = first.label.clone()
    first.label.zero_()
    first.ids.zero_()
    again = next(batches.epoch(0))
    assert torch.equal(again.label, before)
    assert again.ids.any()

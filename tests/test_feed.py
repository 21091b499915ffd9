"""Batches fed ahead are the same ones in the same order, whenever the reader stops."""

import pytest
import torch
from conftest import small_batch, small_layout

from recdistill.train.engine import feed as module
from recdistill.train.engine.feed import feed, pinned
from recdistill.types import Scores

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def batches():
    return [small_batch(small_layout(), seed=seed) for seed in range(5)]


@pytest.fixture(params=[CPU, CUDA], ids=str)
def device(request, monkeypatch):
    """On CUDA the thread is real and only page-locking, which needs the device, is left out."""
    monkeypatch.setattr(module, "pinned", lambda batch: batch)
    return request.param


def test_every_batch_comes_once_in_order(batches, device):
    assert [id(batch) for batch in feed(iter(batches), device)] == [id(batch) for batch in batches]


def test_a_reader_that_stops_leaves_at_most_one_batch_made_ready(batches, device):
    made = []

    def source():
        for batch in batches:
            made.append(batch)
            yield batch

    reader = feed(source(), device)
    assert next(reader) is batches[0]
    assert next(reader) is batches[1]
    reader.close()
    assert 2 <= len(made) <= 3


def test_what_fails_in_the_source_fails_in_the_reader(batches, device):
    def source():
        yield batches[0]
        raise OSError("disk")

    reader = feed(source(), device)
    assert next(reader) is batches[0]
    with pytest.raises(OSError, match="disk"):
        next(reader)


@pytest.mark.gpu
def test_a_pinned_batch_has_the_same_values_in_page_locked_memory(batches):
    import dataclasses

    batch = dataclasses.replace(batches[0], teacher=Scores(logit=torch.ones(len(batches[0]))))
    found = pinned(batch)
    assert found.ids.is_pinned()
    assert found.teacher.logit.is_pinned()
    assert found.teacher.hidden is None
    assert torch.equal(found.to(CUDA).ids.cpu(), batch.ids)

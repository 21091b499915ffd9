"""Random rows of a layout look like rows of a store: known ids inside their tables, whole histories, both labels."""

import dataclasses

import numpy as np
import pytest
from conftest import small_layout

from recdistill.data.batches import Batches
from recdistill.data.random_rows import random_rows
from recdistill.types import FIRST_KNOWN, Layout

WHOLE = small_layout()
POOLED = Layout(ids=WHOLE.pooled, dense=())
WIDE = Layout(ids=(dataclasses.replace(WHOLE.pooled[0], num_rows=10**6),), dense=("a", "b"))


@pytest.mark.parametrize("layout", [WHOLE, POOLED, WIDE], ids=["history", "no dense", "a large table"])
def test_every_id_is_a_known_one_of_its_table(layout):
    (batch,) = Batches(rows=random_rows(layout, 200, seed=1), batch_size=200).epoch(0)
    assert batch.ids.shape == (200, layout.num_id_columns)
    assert batch.dense.shape == (200, len(layout.dense))
    assert set(batch.label.tolist()) == {0.0, 1.0}
    for feature in layout.ids:
        ids = batch.ids[max(f.width for f in layout.ids) :, feature.columns]  # the first rows have short histories
        assert ids.min() >= FIRST_KNOWN
        assert ids.max() < feature.num_rows
        assert len(ids.unique()) > 1


def test_tasks_have_labels_of_both_kinds():
    layout = dataclasses.replace(POOLED, tasks=("liked", "bought"))
    (batch,) = Batches(rows=random_rows(layout, 200, seed=1), batch_size=200).epoch(0)
    assert batch.tasks.shape == (200, 3)
    assert all(set(column.tolist()) == {0.0, 1.0} for column in batch.tasks.T)


def test_the_same_seed_gives_the_same_rows():
    one, same, other = (random_rows(WHOLE, 50, seed=seed).records for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_table_without_known_values_gives_its_unknown_one():
    empty = Layout(ids=(dataclasses.replace(POOLED.ids[0], num_rows=FIRST_KNOWN),), dense=())
    assert set(random_rows(empty, 10, seed=0).records["ids"].ravel().tolist()) == {FIRST_KNOWN - 1}

"""Ids to TorchRec's jagged features and on to one flat input: nothing is lost, invented or looked up for an absence."""

import numpy as np
import pytest
import torch
from conftest import small_batch, small_layout

from recdistill.models.embed import Embed, Fields, _keyed
from recdistill.types import ABSENT, IdFeature, Layout

LAYOUT = small_layout()
WIDTH = 4


def feature(name, start, width=1, table=None, num_rows=9):
    kind = "single" if width == 1 else "bag"
    return IdFeature(name=name, table=table or name, start=start, width=width, num_rows=num_rows, kind=kind)


LAYOUTS = {
    "singles": Layout(ids=(feature("a", 0), feature("b", 1), feature("c", 2)), dense=()),
    "a bag between": Layout(ids=(feature("a", 0), feature("b", 1, 3), feature("c", 4)), dense=()),
    "a shared table": Layout(ids=(feature("a", 0), feature("b", 1), feature("c", 2, table="a")), dense=()),
    "one bag": Layout(ids=(feature("a", 0, 5),), dense=()),
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
each_share = pytest.mark.parametrize("absent", [0.0, 0.3, 1.0])


def some_ids(layout, absent, num_rows=33):
    generator = np.random.default_rng(1)
    ids = generator.integers(1, layout.limits(), (num_rows, layout.num_id_columns))
    return torch.from_numpy(ids * (generator.random(ids.shape) >= absent))


def expected(embed, layout, ids):
    """Row by row and feature by feature: the mean of the vectors of the ids that are there, 0 where none is."""
    out = torch.zeros(len(ids), len(layout.ids), WIDTH)
    for place, one in enumerate(layout.ids):
        rows = embed.bag_tables.embedding_bags[one.table].weight
        for row in range(len(ids)):
            there = [int(i) for i in ids[row, one.columns] if i != ABSENT]
            if there:
                out[row, place] = rows[there].mean(dim=0)
    return out


@each_layout
@each_share
def test_a_row_has_the_mean_of_the_vectors_that_are_there(layout, absent):
    embed = Embed(layout, WIDTH, torch.device("cpu"))
    ids = some_ids(layout, absent)
    with torch.no_grad():
        assert torch.allclose(embed(ids).vectors, expected(embed, layout, ids), atol=1e-6)


@each_layout
@each_share
def test_no_absence_is_looked_up_and_every_other_id_is_once(layout, absent):
    ids = some_ids(layout, absent)
    found = _keyed(layout.ids, ids, skip_absent=True)
    assert found.keys() == [one.name for one in layout.ids]
    assert len(found.lengths()) == len(ids) * len(layout.ids)
    for one in layout.ids:
        block = ids[:, one.columns]
        assert found[one.name].values().tolist() == block[block != ABSENT].tolist()
        assert found[one.name].lengths().tolist() == (block != ABSENT).sum(dim=1).tolist()


@each_share
def test_unpooled_features_stay_rectangular(absent):
    ids = some_ids(LAYOUT, absent)
    found = _keyed(LAYOUT.histories, ids, skip_absent=False)
    assert len(LAYOUT.histories) == 2
    for one in LAYOUT.histories:
        assert torch.equal(found[one.name].values().view(len(ids), one.width), ids[:, one.columns])
        assert set(found[one.name].lengths().tolist()) == {one.width}


def test_an_absence_moves_no_row_of_a_table():
    embed = Embed(LAYOUTS["a bag between"], WIDTH, torch.device("cpu"))
    embed(some_ids(LAYOUTS["a bag between"], 0.4)).vectors.square().sum().backward()
    grads = [parameter.grad for parameter in embed.parameters()]
    assert len(grads) == 3
    assert all(grad[1:].any() and not grad[ABSENT].any() for grad in grads)


def test_the_query_and_the_events_are_rows_of_their_tables():
    embed, batch = Embed(LAYOUT, WIDTH, torch.device("cpu")), small_batch(LAYOUT)
    ids = batch.ids.clone()
    ids[0, LAYOUT.histories[0].columns] = ABSENT
    found = embed(ids)
    tables = {name: table.weight for name, table in embed.tables.embeddings.items()}
    items, clicks = (ids[:, one.columns] for one in LAYOUT.histories)
    assert torch.equal(found.query, tables["item"][ids[:, LAYOUT.target.start]])
    assert torch.equal(found.events, tables["item"][items] + tables["click"][clicks])
    assert torch.equal(found.mask, items != ABSENT)


@pytest.mark.parametrize("num_dense", [0, 2])
def test_the_flat_input_is_all_vectors_then_all_numbers(num_dense):
    vectors, dense = torch.randn(5, 3, WIDTH), torch.randn(5, num_dense)
    found = Fields(vectors=vectors, dense=dense).flat()
    assert found.dtype == torch.float32
    assert found.tolist() == [v.flatten().tolist() + d.tolist() for v, d in zip(vectors, dense, strict=True)]


@pytest.mark.parametrize("num_dense", [0, 2])
def test_the_flat_input_is_as_narrow_as_the_layers_under_autocast(num_dense):
    vectors, dense = torch.randn(5, 3, WIDTH), torch.randn(5, num_dense)
    wide = Fields(vectors=vectors, dense=dense).flat()
    with torch.autocast("cpu", torch.bfloat16):
        narrow = Fields(vectors=vectors, dense=dense).flat()
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow, wide.bfloat16())

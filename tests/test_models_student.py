"""The student: every parameter learns, padding is nothing, and what it does not read it does not know."""

import pytest
import torch
from conftest import small_batch, small_layout

from recdistill.models.student import StudentModel
from recdistill.types import ABSENT, IdFeature, Layout

LAYOUT = small_layout()
COLUMNS = {feature.name: feature.columns for feature in LAYOUT.ids}


def make(layout=LAYOUT, seed=0, **settings):
    torch.manual_seed(seed)
    return StudentModel(layout, **{"width": 4, "attention": 8, "hidden": [16, 8], **settings})


def logit(model, ids, dense):
    with torch.no_grad():
        return model(ids, dense).logit


def changed(batch, name, value):
    """The batch's ids with all columns of a feature set to a value."""
    ids = batch.ids.clone()
    ids[:, COLUMNS[name]] = value
    return ids


def test_it_gives_a_logit_and_its_last_hidden_layer_per_row():
    batch = small_batch(LAYOUT)
    scores = make()(batch.ids, batch.dense)
    assert scores.logit.shape == (len(batch),)
    assert scores.hidden.shape == (len(batch), 8)
    assert scores.logit.dtype == torch.float32


def test_a_gradient_reaches_every_parameter():
    """All but the bias of the attention's score, which a softmax does not know."""
    batch = small_batch(LAYOUT, num_rows=64)
    model = make()
    torch.nn.functional.binary_cross_entropy_with_logits(model(batch.ids, batch.dense).logit, batch.label).backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert len(found) >= 4 + 6
    assert [name for name, grad in found.items() if grad is None] == []
    assert [name for name, grad in found.items() if grad.abs().max() < 1e-9] == ["attention.out.bias"]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    batch = small_batch(LAYOUT)
    one, same, other = (logit(make(seed=seed), batch.ids, batch.dense) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_rows_are_scored_alone_as_they_are_together():
    batch = small_batch(LAYOUT)
    model = make()
    together = logit(model, batch.ids, batch.dense)
    for row in range(len(batch)):
        alone = logit(model, batch.ids[row : row + 1], batch.dense[row : row + 1])
        assert torch.allclose(alone[0], together[row], atol=1e-6)


@pytest.mark.parametrize("name", [feature.name for feature in LAYOUT.ids])
def test_every_feature_is_read(name):
    batch = small_batch(LAYOUT)
    model = make()
    one, other = (logit(model, changed(batch, name, value), batch.dense) for value in (2, 3))
    assert not torch.allclose(one, other)


def test_dense_columns_are_read():
    batch = small_batch(LAYOUT)
    model = make()
    assert not torch.allclose(logit(model, batch.ids, batch.dense), logit(model, batch.ids, batch.dense + 1))


@pytest.mark.parametrize("name", ["tags", "history.item"])
def test_a_padded_place_is_nothing(name):
    """Whatever row 0 of the tables holds, a place with the id 0 adds nothing."""
    batch = small_batch(LAYOUT)
    model = make()
    ids = batch.ids.clone()
    ids[:, COLUMNS[name]] = ABSENT
    if name == "history.item":
        ids[:, COLUMNS["history.click"]] = ABSENT
    ids[: len(ids) // 2, COLUMNS[name].start] = 3  # half of them have one value
    before = logit(model, ids, batch.dense)
    with torch.no_grad():
        for table in ("tags", "click"):
            model.tables[table].weight[ABSENT] += 5.0
        if name == "history.item":
            model.tables["item"].weight[ABSENT] += 5.0
    if name == "tags":
        assert torch.allclose(logit(model, ids, batch.dense), before)
    else:  # an event counts by its item: its absent outcome is a row of the outcome's table
        assert torch.allclose(logit(model, ids, batch.dense)[len(ids) // 2 :], before[len(ids) // 2 :])


def test_a_bag_is_the_mean_of_those_present_in_any_order():
    model, batch = make(), small_batch(LAYOUT)
    ids = batch.ids.clone()
    found = []
    for tags in ([2, 4, 0], [4, 0, 2], [0, 4, 2]):
        ids[:, COLUMNS["tags"]] = torch.tensor(tags)
        found.append(logit(model, ids, batch.dense))
    assert torch.allclose(found[0], found[1], atol=1e-6)
    assert torch.allclose(found[0], found[2], atol=1e-6)
    feature = next(f for f in LAYOUT.ids if f.name == "tags")
    rows = model.tables["tags"].weight
    assert torch.allclose(model.tables.pooled(feature, ids)[0], (rows[2] + rows[4]) / 2)
    assert not model.tables.pooled(feature, changed(batch, "tags", ABSENT)).any()


def test_permuting_the_history_leaves_the_logit():
    model, batch = make(), small_batch(LAYOUT)
    order = torch.tensor([2, 0, 3, 1])
    ids = batch.ids.clone()
    for name in ("history.item", "history.click"):
        ids[:, COLUMNS[name]] = batch.ids[:, COLUMNS[name]][:, order]
    assert not torch.equal(ids, batch.ids)
    assert torch.allclose(logit(model, ids, batch.dense), logit(model, batch.ids, batch.dense), atol=1e-6)


def test_the_candidate_shares_its_table_with_the_history():
    model = make()
    assert len(model.tables) == 4
    assert set(model.tables.names) == {"item", "country", "tags", "click"}
    assert sum(p.numel() for p in model.tables.parameters()) == 4 * (12 + 5 + 7 + 4)


def test_a_short_history_is_its_newest_events():
    batch = small_batch(LAYOUT)
    model = make(history_length=2)
    older, newer = batch.ids.clone(), batch.ids.clone()
    for name in ("history.item", "history.click"):
        older[:, COLUMNS[name].start + 2 : COLUMNS[name].stop] = 2
        newer[:, COLUMNS[name].start] = 2
    plain = logit(model, batch.ids, batch.dense)
    assert torch.equal(logit(model, older, batch.dense), plain)
    assert not torch.equal(logit(model, newer, batch.dense), plain)
    longer = make(history_length=99)
    assert torch.equal(logit(longer, batch.ids, batch.dense), logit(make(), batch.ids, batch.dense))


@pytest.mark.parametrize("name", ["country", "tags"])
def test_a_feature_that_is_left_out_is_not_read_and_costs_nothing(name):
    batch = small_batch(LAYOUT)
    model = make(without=[name])
    assert name not in model.tables.names
    assert torch.equal(logit(model, changed(batch, name, 2), batch.dense), logit(model, batch.ids, batch.dense))


def test_without_the_candidate_there_is_no_history():
    batch = small_batch(LAYOUT)
    model = make(without=["item"])
    assert model.attention is None
    assert set(model.tables.names) == {"country", "tags"}
    assert torch.equal(
        logit(model, changed(batch, "history.item", 3), batch.dense), logit(model, batch.ids, batch.dense)
    )


def test_features_that_share_a_table_share_its_rows():
    two = tuple(
        IdFeature(name=name, table="city", start=place, width=1, num_rows=6, kind="single")
        for place, name in enumerate(("home", "work"))
    )
    model = make(Layout(ids=two, dense=()))
    assert len(model.tables) == 1
    assert model(torch.tensor([[2, 3]]), torch.zeros((1, 0))).logit.shape == (1,)


def test_a_student_without_a_tower_is_linear_in_its_fields():
    batch = small_batch(LAYOUT)
    model = make(hidden=[])
    assert logit(model, batch.ids, batch.dense).shape == (len(batch),)


def test_large_tables_have_sparse_gradients():
    big = IdFeature(name="item", table="item", start=0, width=1, num_rows=50_001, kind="single")
    model = make(Layout(ids=(big,), dense=()), width=1)
    model(torch.tensor([[7]]), torch.zeros((1, 0))).logit.sum().backward()
    grad = model.tables["item"].weight.grad
    assert grad.is_sparse
    assert grad.coalesce().indices().tolist() == [[7]]

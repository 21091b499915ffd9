"""The teacher, unsharded on the CPU: absent is nothing, a history is a set, and a step on a batch helps."""

import dataclasses

import pytest
import torch
from conftest import small_batch, small_layout
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.models.embed import _keyed
from recdistill.models.teacher import TeacherModel
from recdistill.plugins import choose
from recdistill.types import ABSENT, Layout

LAYOUT = small_layout()
COLUMNS = {feature.name: feature.columns for feature in LAYOUT.ids}


def make(layout=LAYOUT, seed=0, **settings):
    torch.manual_seed(seed)
    history = choose("history", "target_attention", {"hidden": 8})
    interaction = choose("interaction", "dcnv2", {"hidden": [16], **settings})
    parts = {"history": history, "interaction": interaction, "head": choose("heads", "single", {})}
    return TeacherModel(layout, width=8, device=torch.device("cpu"), **parts)


def logit(model, ids, dense):
    with torch.no_grad():
        return model(ids, dense).logit


def test_it_gives_a_float_logit_and_its_last_hidden_layer_per_row():
    batch = small_batch(LAYOUT)
    model = make()
    scores = model(batch.ids, batch.dense)
    assert scores.logit.shape == (len(batch),)
    assert scores.hidden.shape == (len(batch), model.interaction.size)
    with torch.autocast("cpu", torch.bfloat16):
        assert make()(batch.ids, batch.dense).logit.dtype == torch.float32


def test_a_gradient_reaches_every_parameter():
    batch = small_batch(LAYOUT, num_rows=64)
    model = make()
    binary_cross_entropy_with_logits(model(batch.ids, batch.dense).logit, batch.label).backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert len(found) >= 4 + 6
    assert [name for name, grad in found.items() if grad is None] == []
    assert [name for name, grad in found.items() if grad.abs().max() < 1e-9] == ["history.out.bias"]


def test_a_step_lowers_the_loss_of_its_batch():
    batch = small_batch(LAYOUT)
    model = make()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(2):
        loss = binary_cross_entropy_with_logits(model(batch.ids, batch.dense).logit, batch.label)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[1] < losses[0]


@pytest.mark.parametrize("name", [feature.name for feature in LAYOUT.ids])
def test_every_feature_is_read(name):
    batch = small_batch(LAYOUT)
    model = make()
    found = []
    for value in (2, 3):
        ids = batch.ids.clone()
        ids[:, COLUMNS[name]] = value
        found.append(logit(model, ids, batch.dense))
    assert not torch.allclose(*found, atol=1e-6)


def embedded(model, name, ids):
    """[N, E] what the bag collection gives for a feature."""
    return model.embed.bag_tables(_keyed(model.embed.bags, ids, skip_absent=True))[name]


@pytest.mark.parametrize("name", ["country", "tags"])
def test_an_absent_value_or_bag_has_a_zero_embedding(name):
    batch = small_batch(LAYOUT)
    model = make()
    ids = batch.ids.clone()
    ids[1, COLUMNS[name]] = ABSENT
    found = embedded(model, name, ids)
    assert not found[1].any()
    assert found[0].any()


def test_a_bag_is_the_mean_of_those_present():
    batch = small_batch(LAYOUT)
    model = make()
    ids = batch.ids.clone()
    ids[:, COLUMNS["tags"]] = torch.tensor([0, 4, 2])
    rows = dict(model.embed.bag_tables.named_parameters())["embedding_bags.tags.weight"]
    assert torch.allclose(embedded(model, "tags", ids)[0], (rows[2] + rows[4]) / 2)


def test_permuting_the_history_leaves_the_logit():
    batch = small_batch(LAYOUT)
    model = make()
    order = torch.tensor([2, 0, 3, 1])
    ids = batch.ids.clone()
    for name in ("history.item", "history.click"):
        ids[:, COLUMNS[name]] = batch.ids[:, COLUMNS[name]][:, order]
    assert not torch.equal(ids, batch.ids)
    assert torch.allclose(logit(model, ids, batch.dense), logit(model, batch.ids, batch.dense), atol=1e-6)


def test_padding_of_a_history_is_nothing():
    """Whatever the absent rows of the tables hold, the padded end of a short history adds nothing."""
    batch = small_batch(LAYOUT)
    model = make()
    ids = batch.ids.clone()
    for name in ("history.item", "history.click"):
        ids[:, COLUMNS[name].start + 1 : COLUMNS[name].stop] = ABSENT
        ids[0, COLUMNS[name]] = ABSENT
    before = logit(model, ids, batch.dense)
    with torch.no_grad():
        tables = [p for name, p in model.embed.tables.named_parameters() if "item" in name or "click" in name]
        assert len(tables) == 2
        for table in tables:
            table[ABSENT] += 5.0
    assert torch.allclose(logit(model, ids, batch.dense), before, atol=1e-6)


def test_rows_are_scored_alone_as_they_are_together():
    batch = small_batch(LAYOUT)
    model = make()
    together = logit(model, batch.ids, batch.dense)
    for row in (0, 7, 15):
        alone = logit(model, batch.ids[row : row + 1], batch.dense[row : row + 1])
        assert torch.allclose(alone[0], together[row], atol=1e-6)


def test_the_candidate_shares_its_table_with_the_history():
    names = [name for name, _ in make().named_parameters() if "tables" in name]
    assert sorted(name.split(".")[-2] for name in names) == ["click", "country", "item", "tags"]


@pytest.mark.parametrize("kept", [["item"], ["country", "tags"], ["tags"]])
def test_a_layout_without_a_history_makes_a_teacher(kept):
    features = [feature for feature in LAYOUT.ids if feature.name in kept]
    starts = [sum(f.width for f in features[:place]) for place in range(len(features))]
    moved = tuple(dataclasses.replace(f, start=start) for f, start in zip(features, starts, strict=True))
    layout = Layout(ids=moved, dense=())
    model = make(layout)
    batch = small_batch(layout)
    assert model.history is None
    assert torch.isfinite(logit(model, batch.ids, batch.dense)).all()


def test_dropout_is_off_in_evaluation():
    batch = small_batch(LAYOUT)
    model = make(dropout=0.5)
    assert not torch.equal(logit(model, batch.ids, batch.dense), logit(model, batch.ids, batch.dense))
    model.eval()
    assert torch.equal(logit(model, batch.ids, batch.dense), logit(model, batch.ids, batch.dense))

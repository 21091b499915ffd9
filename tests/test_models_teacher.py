"""The teacher on the CPU: the contract of all its plug-ins, one exchanged at a time, and what it is made of."""

import dataclasses

import pytest
import torch
from conftest import small_batch, small_layout
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.models.embed import _keyed
from recdistill.models.teacher import TeacherModel
from recdistill.plugins import MODEL, choose, find
from recdistill.train.teachers.shard import dense_parameters, plain_state, shard, world
from recdistill.types import ABSENT, Layout

LAYOUT = small_layout()
COLUMNS = {feature.name: feature.columns for feature in LAYOUT.ids}
CPU = torch.device("cpu")
PLAIN = {
    "history": ("target_attention", {"hidden": 8}),
    "interaction": ("dcnv2", {"hidden": [16]}),
    "heads": ("single", {}),
}
OTHERS = [
    ("history", "transformer", {"layers": 2, "heads": 3}),
    ("history", "hstu", {"layers": 1}),
    ("interaction", "dcnv2", {"rank": 4, "experts": 3}),
    ("interaction", "dcnv2", {"rank": 4, "experts": 1, "structure": "stacked"}),
    ("interaction", "dcnv2", {"layers": 0, "hidden": []}),
    ("interaction", "dlrm", {"bottom": [], "hidden": []}),
    ("interaction", "deepfm", {"hidden": []}),
    ("interaction", "finalmlp", {"hidden": [10], "groups": 3}),
    ("interaction", "masknet", {"structure": "serial"}),
    ("interaction", "mlp", {"hidden": []}),
    ("heads", "ple", {"levels": 1}),
    ("heads", "ple", {"levels": 3, "shared": 1, "own": 2}),
    ("heads", "mmoe", {"experts": 2, "tower": []}),
]
CASES = [(kind, name, {}) for kind in MODEL for name in find(kind)] + OTHERS
WITHOUT_GRADIENT = {"history.out.bias"}  # of target attention: a softmax does not know it
every_part = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, (*case[:2], *case[2].values()))))


def make(layout=LAYOUT, seed=0, case=None, device=CPU, **settings):
    """A teacher of plain parts, `case` in place of the part of its kind. settings: of the interaction."""
    torch.manual_seed(seed)
    parts = PLAIN | ({case[0]: case[1:]} if case else {})
    chosen = {kind: choose(kind, name, given) for kind, (name, given) in parts.items()}
    if settings:
        chosen["interaction"] = choose("interaction", "dcnv2", {"hidden": [16], **settings})
    return TeacherModel(
        layout,
        width=8,
        history=chosen["history"],
        interaction=chosen["interaction"],
        head=chosen["heads"],
        num_tasks=2 if case and case[0] == "heads" else 1,
        device=device,
    )


def logit(model, ids, dense):
    with torch.no_grad():
        return model(ids, dense).logit


def loss_of(model, batch):
    """Of all tasks on the label, so that every part of a head has a gradient."""
    scores = model(batch.ids, batch.dense)
    logits = scores.logit.unsqueeze(1) if scores.tasks is None else scores.tasks
    return binary_cross_entropy_with_logits(logits, batch.label.unsqueeze(1).expand_as(logits))


def cut(kept, dense=()):
    """A layout of some of the features."""
    features = [feature for feature in LAYOUT.ids if feature.name in kept]
    starts = [sum(f.width for f in features[:place]) for place in range(len(features))]
    moved = tuple(dataclasses.replace(f, start=start) for f, start in zip(features, starts, strict=True))
    return Layout(ids=moved, dense=dense)


def test_every_plugin_is_a_case():
    assert {case[:2] for case in CASES} == {(kind, name) for kind in MODEL for name in find(kind)}
    assert len(CASES) >= 4 + 6 + 3


@every_part
def test_it_gives_a_float_logit_and_its_last_hidden_layer_per_row(case):
    batch = small_batch(LAYOUT)
    model = make(case=case)
    scores = model(batch.ids, batch.dense)
    assert scores.logit.shape == (len(batch),)
    assert scores.logit.dtype == torch.float32
    assert scores.hidden.shape == (len(batch), model.interaction.size)
    if case[0] == "heads":
        assert scores.tasks.shape == (len(batch), 2)
        assert torch.equal(scores.tasks[:, 0], scores.logit)
        assert not torch.allclose(scores.tasks[:, 0], scores.tasks[:, 1])
    else:
        assert scores.tasks is None


@every_part
def test_a_gradient_reaches_every_parameter(case):
    batch = small_batch(LAYOUT, num_rows=64)
    model = make(case=case)
    loss_of(model, batch).backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert len(found) >= 4
    assert [name for name, grad in found.items() if grad is None] == []
    assert {name for name, grad in found.items() if grad.abs().max() < 1e-9} <= WITHOUT_GRADIENT


@every_part
def test_a_step_lowers_the_loss_of_its_batch(case):
    batch = small_batch(LAYOUT)
    model = make(case=case)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(2):
        loss = loss_of(model, batch)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[1] < losses[0]


@every_part
def test_every_feature_and_number_is_read(case):
    batch = small_batch(LAYOUT)
    model = make(case=case)
    for name, columns in COLUMNS.items():
        found = []
        for value in (2, 3):
            ids = batch.ids.clone()
            ids[:, columns] = value
            found.append(logit(model, ids, batch.dense))
        assert not torch.allclose(*found, rtol=0, atol=1e-7), name
    found = [logit(model, batch.ids, dense) for dense in (batch.dense, batch.dense + 1)]
    assert not torch.allclose(*found, rtol=0, atol=1e-7)


@every_part
def test_padding_of_a_history_is_nothing(case):
    """Whatever the absent rows of the tables hold, the padded end of a short history adds nothing."""
    batch = small_batch(LAYOUT)
    model = make(case=case)
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


@every_part
def test_rows_are_scored_alone_as_they_are_together(case):
    batch = small_batch(LAYOUT)
    model = make(case=case)
    together = logit(model, batch.ids, batch.dense)
    for row in (0, 7, 15):
        alone = logit(model, batch.ids[row : row + 1], batch.dense[row : row + 1])
        assert torch.allclose(alone[0], together[row], atol=1e-6)


@every_part
def test_in_bf16_it_gives_finite_float32_logits_and_gradients_near_those_of_float32(case):
    batch = small_batch(LAYOUT)
    batch.ids[3, COLUMNS["history.item"]] = ABSENT
    model = make(case=case)
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(batch.ids, batch.dense)
    assert scores.logit.dtype == torch.float32
    assert torch.isfinite(scores.logit).all()
    assert torch.allclose(scores.logit, logit(model, batch.ids, batch.dense), atol=0.05)
    scores.logit.sum().backward()
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(grads) >= 4
    assert all(torch.isfinite(grad).all() for grad in grads)


@every_part
@pytest.mark.parametrize("kept", [["item"], ["country", "tags"], ["tags"]])
def test_a_layout_without_a_history_or_numbers_makes_a_teacher(case, kept):
    for dense in ((), ("price", "age")):
        layout = cut(kept, dense)
        model = make(layout, case=case)
        batch = small_batch(layout)
        assert model.history is None
        found = logit(model, batch.ids, batch.dense)
        assert torch.isfinite(found).all()
        assert found.std() > 0


@every_part
def test_a_seed_gives_the_same_weights_and_another_seed_others(case):
    first, again, other = (make(case=case, seed=seed).state_dict() for seed in (1, 1, 2))
    assert list(first) == list(again) == list(other)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@every_part
def test_built_on_meta_and_sharded_it_trains_and_scores_as_the_plain_one(case):
    batch = small_batch(LAYOUT, num_rows=64)
    with world(CPU):
        model = shard(make(case=case, device=torch.device("meta")), CPU, 0.1)
        optimiser = torch.optim.Adam(dense_parameters(model), 1e-3)
        losses = []
        for _ in range(3):
            loss = loss_of(model, batch)
            losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        alone = make(case=case, seed=5)
        alone.load_state_dict(plain_state(model))
        assert losses[2] < losses[0]
        assert torch.allclose(logit(alone, batch.ids, batch.dense), logit(model, batch.ids, batch.dense), atol=1e-5)


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


def test_the_candidate_shares_its_table_with_the_history():
    names = [name for name, _ in make().named_parameters() if "tables" in name]
    assert sorted(name.split(".")[-2] for name in names) == ["click", "country", "item", "tags"]


@pytest.mark.parametrize("name", ["target_attention", "transformer", "hstu"])
def test_what_an_event_ended_in_is_read_beside_its_item(name):
    """The same items in the history, other outcomes, another logit; the order of features stays."""
    batch = small_batch(LAYOUT)
    model = make(case=("history", name, {}))
    ids = batch.ids.clone()
    ids[:, COLUMNS["history.click"]] = 5 - ids[:, COLUMNS["history.click"]]  # 2 <-> 3
    assert not torch.allclose(logit(model, ids, batch.dense), logit(model, batch.ids, batch.dense), atol=1e-6)


def test_dropout_is_off_in_evaluation():
    batch = small_batch(LAYOUT)
    model = make(dropout=0.5)
    assert not torch.equal(logit(model, batch.ids, batch.dense), logit(model, batch.ids, batch.dense))
    model.eval()
    assert torch.equal(logit(model, batch.ids, batch.dense), logit(model, batch.ids, batch.dense))

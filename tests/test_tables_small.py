"""Small tables: each kind reads what its formula says, pruning and widths go by frequency, codes are near floats."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import make_run, small_batch, small_layout
from pydantic import ValidationError

from recdistill.config.student import Dcn, Fm, Student, Table, TwoTower
from recdistill.data.store import open_rows
from recdistill.models.build import build
from recdistill.models.tables.make import make_table, size
from recdistill.models.tables.mixed_dimension import cut
from recdistill.models.tables.pruned import kept
from recdistill.models.tables.rows import SPREAD, AwareRows, QuantisedRows, quantise_rows, quantised, reset
from recdistill.train.students.look_ups import look_ups
from recdistill.types import ABSENT, OOV

NUM = 300
COUNTS = torch.tensor([0, 5, *(1 + 2000 // (1 + n) for n in range(NUM - 2))])
EVERY_KIND = [
    Table(),
    Table(kind="hashed", rows=20),
    Table(kind="quotient_remainder"),
    Table(kind="quotient_remainder", rows=7),
    Table(kind="mixed_dimension"),
    Table(min_count=20),
    Table(kind="mixed_dimension", keep=50),
    Table(kind="quotient_remainder", keep=50),
]


def make(settings, width=8, num_rows=NUM, counts=COUNTS, seed=0):
    torch.manual_seed(seed)
    table = make_table(settings, num_rows, width, counts)
    reset(table)
    return table


def read(table, ids):
    with torch.no_grad():
        return table(torch.as_tensor(ids))


@pytest.mark.parametrize("settings", EVERY_KIND, ids=str)
def test_every_kind_gives_a_row_for_every_id_in_any_shape(settings):
    table = make(settings)
    everything = read(table, torch.arange(NUM))
    assert everything.shape == (NUM, 8)
    assert torch.isfinite(everything).all()
    ids = torch.randint(0, NUM, (4, 5), generator=torch.Generator().manual_seed(1))
    assert torch.equal(read(table, ids), everything[ids])
    assert 0.3 * SPREAD < everything.std() < 3 * SPREAD


@pytest.mark.parametrize("settings", EVERY_KIND[1:], ids=str)
def test_every_kind_is_smaller_than_a_plain_table(settings):
    assert size(make(settings))["bytes"] < size(make(Table()))["bytes"] == NUM * 8 * 4


@pytest.mark.parametrize("settings", EVERY_KIND, ids=str)
def test_a_gradient_reaches_all_rows_that_are_read(settings):
    table = make(settings)
    table(torch.arange(NUM)).square().sum().backward()
    found = [parameter.grad for parameter in table.parameters()]
    assert found
    assert all(grad is not None and (grad != 0).any(dim=1).all() for grad in found)


def test_hashing_shares_rows_but_not_those_of_absent_and_unknown():
    table = make(Table(kind="hashed", rows=20))
    places = table.place(torch.arange(NUM))
    assert places[:2].tolist() == [ABSENT, OOV]
    hashed = torch.bincount(places[2:], minlength=20)
    assert len(hashed) == 20
    assert hashed[:2].tolist() == [0, 0]
    assert hashed[2:].min() > 0
    assert hashed.max() < 3 * (NUM - 2) / 18


def test_quotient_and_remainder_tell_all_values_apart_and_multiply():
    table = make(Table(kind="quotient_remainder", rows=7))
    rows = read(table, torch.arange(NUM))
    assert len(torch.unique(rows, dim=0)) == NUM
    first, second = table.quotients.weight.detach(), table.remainders.weight.detach()
    assert torch.allclose(rows[100], first[14] * second[2] / SPREAD)
    assert size(table)["parameters"] == (43 + 7) * 8


def test_frequent_values_have_wider_rows():
    table = make(Table(kind="mixed_dimension", blocks=3))
    starts = [*table.starts, NUM]
    wide = [rows.weight.shape[1] for rows in table.rows]
    assert wide[0] == 8
    assert wide == sorted(wide, reverse=True)
    assert wide[-1] < 8
    shares = [int(COUNTS.sort(descending=True).values[a:b].sum()) for a, b in pairwise(starts)]
    assert max(shares) - min(shares) <= 2001 + 5
    order = COUNTS.argsort(descending=True, stable=True)
    for block, start in enumerate(table.starts[1:], start=1):
        own = table.wider[block - 1](table.rows[block].weight[0])
        assert torch.allclose(read(table, order[start : start + 1])[0], own.detach())
    most = int(COUNTS.argmax())
    assert torch.equal(read(table, [most])[0], table.rows[0].weight[0].detach())


def test_without_a_temperature_all_rows_are_as_wide():
    assert [rows.weight.shape[1] for rows in make(Table(kind="mixed_dimension", temperature=0.0)).rows] == [8, 8, 8]


@pytest.mark.parametrize("counts", [[0, 0, 0], [9, 0, 0, 0], [1], [5, 5, 5, 5]])
def test_a_cut_never_makes_an_empty_block(counts):
    starts = cut(torch.tensor(counts), 4)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert starts[-1] < len(counts)
    make(Table(kind="mixed_dimension", blocks=4), num_rows=len(counts), counts=torch.tensor(counts))


def test_rare_values_read_the_row_of_the_unknown():
    table = make(Table(min_count=20))
    rows = read(table, torch.arange(NUM))
    rare = COUNTS < 20
    rare[:2] = False
    assert rare.sum() > 100
    assert (rows[rare] == rows[OOV]).all()
    often = ~rare
    assert len(torch.unique(rows[often], dim=0)) == int(often.sum())
    assert size(table)["parameters"] == int(often.sum()) * 8


def test_keep_holds_the_most_frequent_values():
    chosen = kept(COUNTS, 1, 50)
    assert int(chosen.sum()) == 52
    assert COUNTS[chosen][2:].min() >= COUNTS[~chosen].max()
    assert not kept(COUNTS, 10**6, None)[2:].any()


@pytest.mark.parametrize(("bits", "width"), [(8, 8), (4, 8), (4, 5), (8, 1)])
def test_codes_are_off_by_half_a_step_at_most(bits, width):
    weight = torch.randn((40, width), generator=torch.Generator().manual_seed(bits))
    weight[7] = 0
    rows = QuantisedRows(weight, bits)
    found = read(rows, torch.arange(40))
    step = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((found - weight).abs() <= step * 0.51 + 1e-6).all()
    assert not found[7].any()
    assert rows.codes.element_size() * rows.codes.numel() == 40 * (width if bits == 8 else (width + 1) // 2)
    assert rows.scale.dtype == torch.float16


@pytest.mark.parametrize("settings", EVERY_KIND, ids=str)
@pytest.mark.parametrize("bits", [8, 4])
def test_every_kind_can_be_quantised(settings, bits):
    table = make(settings, width=16)
    before, bytes_before = read(table, torch.arange(NUM)), size(table)
    small = quantised(table, bits)
    after = read(small, torch.arange(NUM))
    assert (after - before).abs().max() < {8: 0.03, 4: 0.4}[bits] * before.abs().max()
    assert size(small)["parameters"] == bytes_before["parameters"]
    assert size(small)["bytes"] < bytes_before["bytes"]
    assert not [module for module in small.modules() if isinstance(module, torch.nn.Embedding)]


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_training_for_few_bits_reads_what_will_ship_and_moves_the_floats(bits):
    table = make(Table(quantise=bits, aware=True))
    assert isinstance(table, AwareRows)
    seen = table(torch.arange(NUM))
    seen.sum().backward()
    assert torch.equal(table.rows.weight.grad, torch.ones(NUM, 8))  # straight through
    shipped = quantised(table, {"int8": 8, "int4": 4}[bits])
    assert torch.allclose(read(shipped, torch.arange(NUM)), seen.detach(), atol=1e-7)
    assert not torch.equal(seen.detach(), table.rows.weight.detach())


def test_an_aware_table_that_is_large_keeps_sparse_gradients():
    table = make(Table(quantise="int4", aware=True), num_rows=50_001, width=2)
    table(torch.tensor([[7, 9]])).sum().backward()
    assert table.rows.weight.grad.is_sparse
    assert table.rows.weight.grad.coalesce().indices().tolist() == [[7, 9]]


def test_the_scale_is_of_each_row():
    codes, scale = quantise_rows(torch.tensor([[127.0, 1.0], [0.127, 0.001]]), 8)
    assert codes.tolist() == [[127, 1], [127, 1]]
    assert scale[0] == 1.0
    assert abs(float(scale[1]) - 0.001) < 1e-6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "hashed"}, "wanted rows beside kind: hashed"),
        ({"rows": 9}, "wanted rows only with kind hashed"),
        ({"aware": True}, "wanted quantise: int8 or int4 beside aware"),
        ({"kind": "cuckoo"}, "plain"),
    ],
)
def test_settings_that_do_not_fit_are_told(given, said):
    with pytest.raises(ValidationError, match=said):
        Table(**given)


def test_look_ups_are_those_of_the_train_window_with_its_histories(tiny_prepared):
    rows = open_rows(tiny_prepared, "train")
    found = look_ups(rows, ["item_id", "country"])
    assert set(found) == {"item_id", "country"}
    ids = rows.ids(np.arange(len(rows)))
    items = [f for f in rows.layout.ids if f.table == "item_id"]
    assert len(items) == 2
    seen = np.concatenate([ids[:, feature.columns].reshape(-1) for feature in items])
    assert (found["item_id"].numpy() == np.bincount(seen, minlength=items[0].num_rows)).all()
    assert int(found["country"].sum()) == len(rows)
    assert look_ups(rows, []) == {}


LAYOUT = small_layout(num_items=200)
MODELS = {
    "widths": {"tables": {"item": {"width": 6}, "country": {"width": 1}, "click": {"width": 2}}},
    "kinds": {"tables": {"item": {"kind": "quotient_remainder"}, "tags": {"kind": "hashed", "rows": 4}}},
    "dcn": {"interaction": {"use": "dcn", "rank": 2}},
    "fm": {"interaction": "fm", "tables": {"country": {"width": 2}}},
    "two_tower": {"interaction": {"use": "two_tower", "user": ["country"], "width": 6}},
}


@pytest.mark.parametrize("name", MODELS)
def test_every_shape_of_student_reads_every_feature_and_learns_with_every_parameter(name):
    settings = Student.model_validate({"tower": [8], **MODELS[name]})
    torch.manual_seed(0)
    model, batch = build(LAYOUT, settings, (), {}), small_batch(LAYOUT, num_rows=64)
    scores = model(batch.ids, batch.dense)
    assert scores.hidden is not None
    torch.nn.functional.binary_cross_entropy_with_logits(scores.logit, batch.label).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    for feature in LAYOUT.ids:
        ids = batch.ids.clone()
        ids[:, feature.columns] = 2
        assert not torch.allclose(model(ids, batch.dense).logit, scores.logit), feature.name


def test_sections_name_their_interaction_in_short_or_in_full():
    assert isinstance(Student(interaction="fm").interaction, Fm)
    assert Student(interaction={"use": "dcn", "rank": 3}).interaction == Dcn(use="dcn", rank=3)
    with pytest.raises(ValidationError, match="mlp"):
        Student(interaction="transformer")


def test_the_vectors_of_the_two_towers_know_one_side_only():
    settings = Student(interaction=TwoTower(use="two_tower", user=["country"], width=6), tower=[8])
    torch.manual_seed(0)
    model, batch = build(LAYOUT, settings, (), {}).eval(), small_batch(LAYOUT)
    user, item = model.user_vector(batch.ids, batch.dense), model.item_vector(batch.ids, batch.dense)
    assert torch.allclose((user * item).sum(dim=1) + model.bias, model(batch.ids, batch.dense).logit)
    for feature in LAYOUT.ids:
        ids = batch.ids.clone()
        ids[:, feature.columns] = 2
        is_user = feature.name == "country" or feature.kind == "history"
        assert torch.equal(model.item_vector(ids, batch.dense), item) == is_user, feature.name
        assert torch.equal(model.user_vector(ids, batch.dense), user) != is_user, feature.name
    assert torch.equal(model.user_vector(batch.ids, batch.dense + 1), user)


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ({"tables": {"item": {"width": 2}}}, r"student.tables: wanted names of tables of features, found \['item'\]"),
        (
            {"interaction": {"use": "two_tower", "user": ["contry"]}},
            r"interaction.user: wanted names of features, found",
        ),
        ({"interaction": {"use": "two_tower", "user": ["item_id"]}}, "wanted the user's features and not the item's"),
        ({"without": ["contry"]}, r"student.without: wanted names of features, found \['contry'\]"),
    ],
)
def test_names_that_no_feature_has_are_told(tmp_path, student, said):
    with pytest.raises(ValidationError, match=said):
        make_run(tmp_path, tmp_path, student=student)
    made = make_run(tmp_path, tmp_path, student={"tables": {"clicked": {"width": 1}, "item_id": {"keep": 9}}})
    assert made.student.counted(["clicked", "item_id"]) == ["item_id"]

"""What plug-ins are told before training, the warm start, the live teacher, the earlier run and the carved student."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_run, small_batch, small_layout, the_line
from torch import nn

from recdistill.config.student import Mlp
from recdistill.data.batches import Batches
from recdistill.data.items import item_ids
from recdistill.data.scores import open_scores
from recdistill.data.store import open_rows
from recdistill.distil.facts import Facts, Widths
from recdistill.models.carve import carve
from recdistill.models.student import StudentModel
from recdistill.pipeline import run_all
from recdistill.plugins import load_all
from recdistill.problems import BadInput
from recdistill.train.predict import load_weights, weights_name
from recdistill.train.students.earlier import earlier
from recdistill.train.students.known import base_rate, popularity, widths
from recdistill.train.students.live import Live
from recdistill.train.students.shape import AS_DESCRIBED, build_student, parts
from recdistill.train.students.student import open_student
from recdistill.train.students.teacher_pca import begin_as_teacher, project, teacher_table
from recdistill.train.teachers.teacher import open_teacher


@pytest.fixture(scope="module")
def world(tiny_log, tmp_path_factory):
    """(run, folders up to distil)."""
    run = make_run(tiny_log, tmp_path_factory.mktemp("known"), student={"seeds": 1})
    return run, run_all(run, until="distil").folders


@pytest.fixture(scope="module")
def rows(world):
    return open_rows(world[1]["prepare"], "train")


@pytest.fixture(scope="module")
def live(world, rows):
    """(a live teacher, a batch of the train window)."""
    run, folders = world
    with open_teacher(run, rows.layout, folders["train_teacher"]) as teacher:
        yield Live(teacher, rows.layout), Batches(rows=rows, batch_size=64).batch(np.arange(64))


# Facts of the train window.


def test_base_rate_is_the_logit_of_the_share_of_positives(rows):
    share = float(np.mean(rows["label"]))
    assert base_rate(rows) == pytest.approx(math.log(share / (1 - share)) - float(np.mean(rows["offset"])), abs=1e-6)


def test_popularity_counts_every_row_by_its_item(rows):
    found = popularity(rows, rows.layout.target)
    ids = rows.ids(np.arange(len(rows)))[:, rows.layout.target.start]
    assert found.counts.sum() == len(rows)
    for item in np.unique(ids)[:20]:
        assert found.counts[item] == (ids == item).sum()


def test_popularity_groups_share_out_the_interactions(rows):
    found = popularity(rows, rows.layout.target)
    group = found.groups(4)
    shares = [float(found.counts[group == number].sum() / found.counts.sum()) for number in range(4)]
    assert all(0.1 < share < 0.4 for share in shares)
    assert found.counts[group == 0].max() <= found.counts[group == 3].min()


def test_widths_are_those_of_a_forward_pass(world, rows):
    run, _ = world
    student = build_student(run, rows.layout, {}, AS_DESCRIBED)
    found = widths(run, student, frozenset({"pooled"}))
    batch = Batches(rows=rows, batch_size=8).batch(np.arange(8))
    seen = []
    student.tower.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))
    hidden = student(batch.ids, batch.dense).hidden
    assert (found.pooled, found.hidden) == (seen[0], hidden.shape[1])
    assert found.pooled == len(found.fields) * found.field + len(rows.layout.dense)
    assert found.fields[-1] == "history"


@pytest.mark.parametrize(
    ("student", "needs", "words"),
    [
        ({"interaction": "fm"}, {"pooled"}, ("student.interaction", "found fm")),
        ({"interaction": {"use": "two_tower", "user": ["country"]}}, {"blocks"}, ("student.interaction", "two_tower")),
    ],
)
def test_a_student_without_such_an_inside_is_refused(tiny_log, tmp_path, rows, student, needs, words):
    run = make_run(tiny_log, tmp_path, student=student)
    with pytest.raises(BadInput) as caught:
        widths(run, build_student(run, rows.layout, {}, AS_DESCRIBED), frozenset(needs))
    the_line(caught.value.problems, *words)


def test_objectives_refuse_a_student_that_has_nothing_to_compare():
    none = Widths(fields=(), field=0, pooled=3, blocks=(), hidden=3)
    facts = Facts(student=none, teacher=Widths(fields=("a",), field=2, pooled=2, blocks=(4,), hidden=4))
    for name, words in (("feature.attention", "student.tables"), ("point.block_probes", "student.tower")):
        with pytest.raises(BadInput) as caught:
            load_all("objectives")[name].make(facts)
        the_line(caught.value.problems, words)


# The live teacher.


def test_a_live_teacher_says_what_is_stored_up_to_bf16(world, rows, live):
    _, folders = world
    teacher, batch = live
    stored = open_scores(folders["score"], "train", rows, folders["prepare"]).logit[:64]
    assert np.allclose(teacher.scores(batch).logit.numpy(), stored, atol=1e-2)


def test_from_its_own_pooled_vectors_a_live_teacher_says_the_same(live):
    teacher, batch = live
    pooled = teacher.pooled(batch)
    assert pooled.shape == (64, len(teacher.widths.fields), teacher.widths.field)
    assert torch.allclose(teacher.from_pooled(pooled, batch), teacher.scores(batch).logit, atol=1e-5)
    free = pooled.clone().requires_grad_()
    teacher.from_pooled(free, batch).sum().backward()
    assert free.grad.abs().sum() > 0


def test_the_inside_of_a_live_teacher_has_the_widths_it_names(live):
    teacher, batch = live
    assert tuple(block.shape[1] for block in teacher.blocks(batch)) == teacher.widths.blocks
    assert torch.equal(teacher.blocks(batch)[-1], teacher.scores(batch).hidden)
    assert teacher.widths.hidden == teacher.widths.blocks[-1]


def test_fields_of_a_live_teacher_are_named_by_their_order(world, rows, live):
    """A row whose country changes moves the vector of that field alone."""
    teacher, batch = live
    feature = next(feature for feature in rows.layout.ids if feature.name == "country")
    ids = batch.ids.clone()
    ids[:, feature.start] = torch.where(ids[:, feature.start] == 2, 3, 2)
    moved = SimpleNamespace(ids=ids, dense=batch.dense)
    changed = (teacher.pooled(moved) - teacher.pooled(batch)).abs().sum(dim=(0, 2)) > 0
    assert [name for name, it in zip(teacher.widths.fields, changed, strict=True) if it] == ["country"]


def test_nothing_that_a_live_teacher_says_carries_a_gradient(live):
    teacher, batch = live
    said = [teacher.scores(batch).logit, teacher.pooled(batch), *teacher.blocks(batch)]
    assert not any(value.requires_grad for value in said)


# The warm start.


def test_a_projection_keeps_what_can_be_kept():
    """The squares lost are those of the directions left out (Eckart & Young)."""
    table = torch.randn((50, 6), generator=torch.Generator().manual_seed(1), dtype=torch.float64) @ torch.diag(
        torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1], dtype=torch.float64)
    )
    centred = table - table.mean(dim=0)
    singular = torch.linalg.svdvals(centred)
    for width in (1, 3, 6):
        found = project(table, width)
        back = torch.linalg.lstsq(found, centred).solution
        assert ((found @ back - centred) ** 2).sum().item() == pytest.approx(
            (singular[width:] ** 2).sum().item(), abs=1e-9
        )
    assert torch.allclose(project(table, 8)[:, 6:], torch.zeros(50, 2, dtype=torch.float64))


def test_a_warm_start_fills_every_table_with_the_teachers(world, rows):
    run, folders = world
    weights = load_weights(folders["train_teacher"], weights_name(0))
    student = build_student(run, rows.layout, {}, AS_DESCRIBED)
    begin_as_teacher(student.tables, weights)
    assert len(student.tables.names) >= 3
    for name in student.tables.names:
        width = student.tables.widths[name]
        assert torch.equal(student.tables[name].weight, project(teacher_table(weights, name), width)), name


@pytest.mark.parametrize(
    "table",
    [
        {"keep": 5},
        {"kind": "hashed", "rows": 20},
        {"kind": "hashed", "rows": 6, "keep": 15, "aware": True, "quantise": "int8"},
    ],
    ids=["pruned", "hashed", "pruned, hashed"],
)
def test_a_warm_start_gives_values_that_share_a_row_their_mean(world, tiny_log, rows, tmp_path, table):
    _, folders = world
    weights = load_weights(folders["train_teacher"], weights_name(0))
    run = make_run(tiny_log, tmp_path, student={"tables": {"item_id": table}})
    counts = torch.bincount(
        torch.from_numpy(item_ids(rows, rows.layout.target).astype(np.int64)), minlength=rows.layout.tables["item_id"]
    )
    student = build_student(run, rows.layout, {"item_id": counts}, AS_DESCRIBED)
    whole, small = teacher_table(weights, "item_id"), student.tables["item_id"]
    _, group = small(torch.arange(len(whole))).unique(dim=0, return_inverse=True)
    begin_as_teacher(student.tables, weights)
    means = torch.stack([whole[group == number].double().mean(dim=0) for number in range(int(group.max()) + 1)])
    (held,) = small.parameters()
    unread = whole.double().mean(dim=0).expand(len(held) - len(means), -1)
    wanted = project(torch.cat([means, unread]).float(), held.shape[1])[group]
    assert len(means) < len(whole), "some share"
    assert torch.allclose(small(torch.arange(len(whole))), wanted, atol=2e-3 if table.get("aware") else 1e-5)


def test_a_warm_start_of_strange_tables_or_names_is_refused(world, tiny_log, rows, tmp_path):
    _, folders = world
    weights = load_weights(folders["train_teacher"], weights_name(0))
    composed = make_run(tiny_log, tmp_path, student={"tables": {"item_id": {"kind": "quotient_remainder", "rows": 20}}})
    student = build_student(composed, rows.layout, {}, AS_DESCRIBED)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with pytest.raises(
        BadInput, match=r"recipe.init: wanted tables of one row a value, found others: item_id; make them plain or hash"
    ):
        begin_as_teacher(student.tables, weights)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    with pytest.raises(BadInput, match=r"recipe.init: wanted a table of the teacher named shop, found .*item_id"):
        teacher_table(weights, "shop")


# An earlier run.


def test_an_earlier_run_gives_the_logits_of_its_teacher_and_of_what_it_shipped(world):
    run, folders = world
    found = earlier(run, Path(run.folder), folders["prepare"])
    student = open_student(run, open_rows(folders["prepare"], "test").layout, folders["distil"], "student", 0)
    for split in ("train", "test"):
        rows = open_rows(folders["prepare"], split)
        batch = Batches(rows=rows, batch_size=32).batch(np.arange(32))
        stored = open_scores(folders["score"], split, rows, folders["prepare"]).logit[:32]
        said, known = found["previous_teacher"].of(batch.row_id)
        assert known.all()
        assert np.allclose(said.numpy(), stored)
        with torch.no_grad():
            wanted = student(batch.ids, batch.dense).logit
        assert torch.allclose(found["previous_student"].of(batch.row_id)[0], wanted, atol=1e-5)
    assert not found["previous_teacher"].of(torch.tensor([10**9]))[1].any()


@pytest.mark.parametrize("student", [{"tower": [7]}, {"table": {"keep": 5}}], ids=["a tower", "counted tables"])
def test_an_earlier_run_of_another_student_is_refused(world, tiny_log, tmp_path, student):
    run, folders = world
    other = make_run(tiny_log, tmp_path, student=student)
    with pytest.raises(BadInput, match=r"recipe.previous: .*wanted a student of the shape that this run describes"):
        earlier(other, Path(run.folder), folders["prepare"])


# The carved student.


def fresh(hidden=(8, 4)):
    torch.manual_seed(0)
    return StudentModel(small_layout(), width=4, attention=4, hidden=hidden, interaction=Mlp())


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_student_and_assistant_are_no_larger_than_the_student_and_add_up(share):
    model, whole, batch = fresh(), fresh(), small_batch(small_layout())
    carve(model, (8, 4), share)
    assert size(model) <= size(whole) + 1  # a bias each
    alone = model(batch.ids, batch.dense).logit
    with torch.no_grad():
        model.head.assistant.bias.add_(1.5)
    assert torch.allclose(model(batch.ids, batch.dense).logit, alone + 1.5)


def test_an_assistant_says_nothing_before_it_has_learnt():
    model, batch = fresh(), small_batch(small_layout())
    carve(model, (8, 4), 0.5)
    before = model(batch.ids, batch.dense).logit
    nn.init.normal_(model.tower.assistant[0].weight, std=9.0)
    assert torch.equal(model(batch.ids, batch.dense).logit, before)


def test_parts_share_out_the_parameters():
    for model, number in ((fresh(), 4), (fresh(()), 2)):
        found = parts(model)
        assert len(found) == number
        assert sum(p.numel() for part in found for p in part) == size(model)
    model = fresh()
    carve(model, (8, 4), 0.5)
    first, second = parts(model)
    assert {id(p) for p in second} == {
        id(p) for p in (*model.tower.assistant.parameters(), *model.head.assistant.parameters())
    }
    assert sum(p.numel() for p in (*first, *second)) == size(model)


def test_there_are_plug_ins_of_all_that_is_told():
    needs = frozenset().union(
        *(p.needs for kind in ("objectives", "targets", "selection", "schedules") for p in load_all(kind).values())
    )
    assert needs >= {
        "item_popularity",
        "item_vectors",
        "previous",
        "first_generation",
        "live_teacher",
        "hidden",
        "progress",
    }

"""The loss over several tasks, and a teacher of two that learns both from one log."""

import dataclasses
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import make_run, small_layout
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.data.batches import Batches
from recdistill.data.prepare import prepare
from recdistill.data.store import open_rows
from recdistill.files import whole_folder
from recdistill.metrics.ranking import plain_auc
from recdistill.train.teachers.fit import build_teacher, fit_teacher
from recdistill.train.teachers.shard import world
from recdistill.train.teachers.tasks import multi_task_loss
from recdistill.types import Batch, Layout, Scores

NONE = math.nan


def batch_of(label, tasks=None, offset=None):
    """A batch with tasks' labels [N, M]."""
    batch = Batch.example(label=label, tasks=tasks)
    return batch if offset is None else dataclasses.replace(batch, offset=torch.tensor(offset))


def test_the_loss_of_one_task_is_the_log_loss():
    scores = Scores(logit=torch.tensor([1.0, -2.0, 0.5]))
    batch = batch_of([1.0, 0.0, 1.0], offset=[0.0, 0.5, -1.0])
    wanted = binary_cross_entropy_with_logits(scores.logit + batch.offset, batch.label)
    assert torch.allclose(multi_task_loss(scores, batch), wanted)
    assert torch.allclose(multi_task_loss(scores, batch, [2.0]), 2 * wanted)


def test_the_loss_of_several_tasks_is_over_the_labels_there_are():
    logits = torch.tensor([[1.0, 0.0, 3.0], [0.0, 2.0, 3.0], [-1.0, 0.0, 3.0]], requires_grad=True)
    scores = Scores(logit=logits[:, 0], tasks=logits)
    batch = batch_of([1.0, 0.0, 0.0], [[1.0, NONE, NONE], [0.0, 1.0, NONE], [0.0, 0.0, NONE]])
    first = binary_cross_entropy_with_logits(logits[:, 0], batch.label)
    second = binary_cross_entropy_with_logits(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    loss = multi_task_loss(scores, batch, [1.0, 10.0, 5.0])
    assert torch.allclose(loss, first + 10 * second)
    assert torch.allclose(multi_task_loss(scores, batch), first + second)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[:, 2].any()
    assert not logits.grad[0, 1]


def test_the_offset_belongs_to_the_first_task_alone():
    logits = torch.zeros(2, 2)
    batch = batch_of([1.0, 0.0], [[1.0, 1.0], [0.0, 0.0]], offset=[3.0, 3.0])
    first = binary_cross_entropy_with_logits(torch.tensor([3.0, 3.0]), batch.label)
    second = binary_cross_entropy_with_logits(logits[:, 1], batch.label)
    assert torch.allclose(multi_task_loss(Scores(logit=logits[:, 0], tasks=logits), batch), first + second)


def test_a_score_that_is_not_a_number_stays_visible():
    logits = torch.tensor([[0.0, NONE], [0.0, 0.0]])
    batch = batch_of([1.0, 0.0], [[1.0, 1.0], [0.0, 0.0]])
    assert multi_task_loss(Scores(logit=logits[:, 0], tasks=logits), batch).isnan()


def test_a_log_without_other_tasks_has_the_usual_loss_whatever_the_head():
    """A head of one logit says no tasks; the batch's own label is what it meets."""
    scores = Scores(logit=torch.tensor([1.0, -2.0]))
    batch = batch_of([1.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
    assert torch.allclose(multi_task_loss(scores, batch), binary_cross_entropy_with_logits(scores.logit, batch.label))


@pytest.fixture(scope="module")
def two_outcomes(tiny_log, tmp_path_factory):
    """The tiny log with a second outcome, `kept`, of the clicked rows alone: whether the item's number is even."""
    folder = tmp_path_factory.mktemp("two")
    for path in sorted(tiny_log.rglob("*.parquet")):
        table = pq.read_table(path)
        item, clicked = (table[name].to_numpy(zero_copy_only=False) for name in ("item_id", "clicked"))
        kept = np.where(clicked == 1, (item % 2 == 0).astype(float), NONE)
        frame = table.to_pandas()
        frame["kept"] = kept
        target = folder / "log" / path.relative_to(tiny_log)
        target.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(target)
    return folder


@pytest.mark.parametrize("head", ["single", "mmoe", "ple"])
def test_a_teacher_of_two_tasks_learns_the_second_from_the_rows_that_have_it(two_outcomes, tmp_path, head):
    tasks = [{"name": "kept", "column": "kept"}]
    teacher = {"epochs": 2, "head": head, "task_weight": [1.0, 2.0], "learning_rate": 0.01}
    run = make_run(two_outcomes / "log", tmp_path, data={"tasks": tasks}, teacher=teacher)
    with whole_folder(tmp_path / "prepare", {"step": "prepare", "key": "0" * 64}) as out:
        prepare(run, {}, out)
    rows = open_rows(tmp_path / "prepare", "train")
    assert rows.layout.tasks == ("kept",)
    with world(torch.device("cpu")) as here:
        trained = fit_teacher("teacher", run.teacher, 0, tmp_path / "prepare", here)
    model = build_teacher(run.teacher, rows.layout, tables="cpu")
    model.load_state_dict(trained.weights)
    (batch,) = Batches(rows=rows, batch_size=len(rows)).epoch(0)
    with torch.no_grad():
        scores = model.eval()(batch.ids, batch.dense)
    has = batch.tasks[:, 1].isfinite()
    assert torch.equal(has, batch.label == 1)
    assert plain_auc(scores.tasks[has, 1].numpy(), batch.tasks[has, 1].numpy()) > 0.95
    assert plain_auc(scores.logit.numpy(), batch.label.numpy()) > 0.52


@pytest.mark.parametrize(
    ("weights", "fits"), [([], True), ([1.0, 0.5], True), ([1.0], False), ([1.0, 1.0, 1.0], False)]
)
def test_weights_are_one_per_task_or_none(tmp_path, weights, fits):
    settings = {"data": {"tasks": [{"name": "kept", "column": "kept"}]}, "teacher": {"task_weight": weights}}
    if fits:
        assert make_run(tmp_path, tmp_path, **settings).teacher.task_weight == weights
    else:
        with pytest.raises(ValueError, match=r"teacher.task_weight: wanted 2 .* found [13]"):
            make_run(tmp_path, tmp_path, **settings)


def test_a_layout_names_the_tasks_and_one_written_before_has_none():
    layout = dataclasses.replace(small_layout(), tasks=("kept", "shared"))
    written = layout.to_json()
    assert Layout.from_json(written) == layout
    before = {name: value for name, value in written.items() if name != "tasks"}
    assert Layout.from_json(before) == small_layout()

"""Batch, Scores and Layout: what they hold, and that nothing is lost on the way to a device, to JSON and back."""

import dataclasses
import json

import pytest
import torch
from conftest import small_batch, small_layout

from recdistill.types import Batch, IdFeature, Layout, Scores


def test_scores_are_cut_from_the_graph_with_equal_values():
    logit, hidden = torch.ones(2, requires_grad=True), torch.ones((2, 3), requires_grad=True)
    cut = Scores(logit=logit * 3, hidden=hidden * 5).detach()
    assert not cut.logit.requires_grad
    assert not cut.hidden.requires_grad
    assert cut.logit.tolist() == [3.0, 3.0]
    assert cut.hidden[0].tolist() == [5.0, 5.0, 5.0]
    assert Scores(logit=logit).detach().hidden is None


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Scores(logit=torch.zeros(1)).logit = torch.ones(1)


def test_an_example_batch_gives_every_row_its_own_request_unless_told():
    alone = Batch.example(label=[1.0, 0.0, 1.0])
    assert len(alone) == 3
    assert alone.request.tolist() == [0, 1, 2]
    assert Batch.example(label=[1.0, 0.0], request=[4, 4]).request.tolist() == [4, 4]
    assert Batch.example(label=[1.0, 0.0], tasks=[[1, 0], [0, 1]]).tasks.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_batch_moves_with_its_teacher_and_keeps_every_value():
    batch = small_batch(small_layout())
    teacher = Scores(logit=torch.randn(len(batch)), hidden=torch.randn(len(batch), 2))
    tasks = torch.tensor([[1.0, float("nan"), 0.0]]).expand(len(batch), 3)
    batch = dataclasses.replace(batch, teacher=teacher, tasks=tasks)
    moved = batch.to(torch.device("meta"))
    fields = [field.name for field in dataclasses.fields(Batch) if field.name != "teacher"]
    assert len(fields) == 8
    for name in fields:
        assert getattr(moved, name).device.type == "meta", name
    assert moved.teacher.logit.device.type == moved.teacher.hidden.device.type == "meta"
    same = batch.to(torch.device("cpu"))
    assert all(torch.allclose(getattr(same, n), getattr(batch, n), rtol=0, atol=0, equal_nan=True) for n in fields)
    assert small_batch(small_layout()).to(torch.device("meta")).tasks is None
    assert torch.equal(same.teacher.hidden, teacher.hidden)


def test_a_layout_survives_json():
    layout = small_layout()
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_a_layout_covers_every_id_column_once_and_in_order():
    layout = small_layout()
    columns = [column for feature in layout.ids for column in range(feature.columns.start, feature.columns.stop)]
    assert columns == list(range(layout.num_id_columns)) == list(range(1 + 1 + 3 + 4 + 4))
    assert layout.limits() == [12] + [5] + [7] * 3 + [12] * 4 + [4] * 4


def test_a_layout_tells_histories_from_the_rest_and_finds_the_candidate():
    layout = small_layout()
    assert [f.name for f in layout.pooled] == ["item", "country", "tags"]
    assert [f.name for f in layout.histories] == ["history.item", "history.click"]
    assert layout.target.name == "item"
    assert layout.tables == {"item": 12, "country": 5, "tags": 7, "click": 4}


def test_a_layout_without_a_history_has_no_candidate():
    only = IdFeature(name="item", table="item", start=0, width=1, num_rows=4, kind="single")
    assert Layout(ids=(only,), dense=()).target is None

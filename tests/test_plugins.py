"""Plug-ins are found by their file's path, say what they are, and keep the contract of their kind."""

import dataclasses
import inspect
import math
import re

import pytest
import torch
from pydantic import ValidationError

from recdistill import plugins
from recdistill.distil.multipliers import Multipliers
from recdistill.plugins import GRAMMAR, KINDS, KNOWN_NEEDS, find, load, load_all
from recdistill.types import Batch, Scores

ALL = [pytest.param(plugin, id=f"{kind}/{name}") for kind in GRAMMAR for name, plugin in load_all(kind).items()]
LEAST = {"objectives": 5, "targets": 2, "selection": 2, "schedules": 2, "history": 4, "interaction": 6, "heads": 3}


def of(kind):
    return pytest.mark.parametrize("plugin", load_all(kind).values(), ids=lambda plugin: plugin.name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_a_kind_is_found_under_its_path(kind):
    found = find(kind)
    assert len(found) >= LEAST[kind]
    for name, path in found.items():
        assert path.is_file()
        assert path.as_posix().endswith(f"/{kind}/{name.replace('.', '/')}.py")
    assert list(found) == sorted(found, key=lambda name: found[name])


def test_a_new_file_is_a_plugin_and_private_ones_are_not(tmp_path, monkeypatch):
    for name in ("list/new.py", "list/__init__.py", "_shared.py", "list/_mine.py", "notes.md"):
        path = tmp_path / "distil/objectives" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.setattr(plugins, "__file__", str(tmp_path / "plugins.py"))
    assert find("objectives") == {"list.new": tmp_path / "distil/objectives/list/new.py"}


def test_an_unknown_name_is_a_key_error():
    with pytest.raises(KeyError):
        load("objectives", "soft_bce")


@pytest.mark.parametrize("plugin", ALL)
def test_a_plugin_says_what_it_is_where_from_and_how_it_differs(plugin):
    """One line, then a formula, a source unless there is nothing to cite, and an example."""
    text = inspect.getmodule(plugin.make).__doc__
    assert plugin.summary.endswith((".", ":")), plugin.summary
    assert len(plugin.summary) <= 120
    assert ">>> " in text
    if plugin.kind in ("objectives", "targets"):
        assert "\n    " in text, "no formula"
        assert re.search(r"Source: |\b(19|20)\d\d\b", text), "neither a source nor the year of one"
    assert plugin.make.__doc__


@pytest.mark.parametrize("plugin", ALL)
def test_a_plugin_has_one_public_function_with_checked_keyword_settings(plugin):
    module = inspect.getmodule(plugin.make)
    public = [n for n, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__]
    assert [name for name in public if not name.startswith("_")] == [plugin.path.stem]
    assert plugin.needs <= KNOWN_NEEDS
    for parameter in plugin.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
    with pytest.raises(ValidationError, match="no_such_setting"):
        plugin.settings({"no_such_setting": 1})


@pytest.mark.parametrize("plugin", ALL)
def test_a_plugin_has_defaults_and_keeps_what_is_given(plugin):
    defaults = plugin.settings({})
    assert set(defaults) == set(plugin.parameters)
    assert defaults == {name: p.default for name, p in plugin.parameters.items()}
    for name, value in defaults.items():
        assert plugin.settings({name: value / 2})[name] == value / 2


def test_settings_are_checked_by_their_annotations_all_at_once():
    linear = load("schedules", "linear")
    with pytest.raises(ValidationError) as caught:
        linear.settings({"start": -1, "end": "soon"})
    assert {error["loc"] for error in caught.value.errors()} == {("start",), ("end",)}
    assert linear.settings({"start": "2"}) == {"start": 2.0, "end": 0.0}


def rows(num_rows=6):
    teacher = Scores(logit=torch.tensor([-40.0, -1.0, 0.0, 0.5, 2.0, 40.0])[:num_rows], hidden=torch.ones(num_rows, 2))
    return dataclasses.replace(Batch.example(label=[0.0, 1.0] * (num_rows // 2)), teacher=teacher)


@of("targets")
def test_a_target_keeps_rows_order_and_what_it_was_given(plugin):
    batch = rows()
    before = batch.teacher.logit.clone()
    found = plugin.make(batch.teacher, **plugin.settings({}))
    assert isinstance(found, Scores)
    assert found.logit.shape == before.shape
    assert torch.isfinite(found.logit).all()
    assert (found.logit.diff() >= 0).all()
    assert torch.equal(batch.teacher.logit, before)
    assert torch.equal(found.hidden, batch.teacher.hidden)


@of("selection")
def test_a_selection_gives_a_finite_weight_per_row_without_a_gradient(plugin):
    weight = plugin.make(rows(), **plugin.settings({}))
    assert weight.shape == (6,)
    assert torch.isfinite(weight).all()
    assert (weight >= 0).all()
    assert weight.sum() > 0
    assert not weight.requires_grad


@of("schedules")
def test_a_schedule_gives_multipliers_that_are_not_negative(plugin):
    for progress in (0.0, 0.3, 1.0):
        found = plugin.make(progress, **plugin.settings({}))
        assert isinstance(found, Multipliers)
        assert found.label >= 0
        assert found.teacher >= 0


def test_uncertain_weighs_by_entropy_between_floor_and_one():
    weight = load("selection", "uncertain").make(rows(), floor=0.25)
    p = 1 / (1 + math.exp(-0.5))
    entropy = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    assert weight[3].item() == pytest.approx(0.25 + 0.75 * entropy / math.log(2), rel=1e-5)
    assert weight[2] == 1.0
    assert weight[[0, 5]].tolist() == pytest.approx([0.25, 0.25])


def test_linear_goes_straight_from_start_to_end():
    linear = load("schedules", "linear").make
    found = [linear(p, start=0.8, end=0.2).teacher for p in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([0.8, 0.5, 0.2])
    assert {linear(p, start=0.8, end=0.2).label for p in (0.0, 0.5, 1.0)} == {1.0}


def test_affine_then_clip_is_not_clip_then_affine():
    affine, clip = (load("targets", name).make for name in ("affine", "clip"))
    scores = Scores(logit=torch.tensor([3.0, -5.0]))
    assert clip(affine(scores, scale=2.0, shift=1.0), limit=4.0).logit.tolist() == [4.0, -4.0]
    assert affine(clip(scores, limit=4.0), scale=2.0, shift=1.0).logit.tolist() == [7.0, -7.0]

"""Plug-ins are found by their file's path, say what they are, and keep the contract of their kind."""

import dataclasses
import inspect
import math
import re

import pytest
import torch
from pydantic import ValidationError

from recdistill import plugins
from recdistill.distil.facts import Facts, Popularity, RowLogits, Widths
from recdistill.distil.lesson import made
from recdistill.distil.multipliers import Multipliers
from recdistill.plugins import GRAMMAR, KINDS, KNOWN_NEEDS, Choice, find, load, load_all
from recdistill.types import Batch, Scores

ALL = [pytest.param(plugin, id=f"{kind}/{name}") for kind in GRAMMAR for name, plugin in load_all(kind).items()]
LEAST = {"objectives": 35, "targets": 11, "selection": 8, "schedules": 10, "history": 4, "interaction": 6, "heads": 3}


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
def test_a_plugin_has_one_public_function_or_class_with_checked_keyword_settings(plugin):
    module = inspect.getmodule(plugin.make)
    either = inspect.getmembers(module, lambda it: inspect.isfunction(it) or inspect.isclass(it))
    public = [name for name, it in either if it.__module__ == module.__name__ and not name.startswith("_")]
    assert public in ([plugin.path.stem], ["".join(word.capitalize() for word in plugin.path.stem.split("_"))])
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
        other = (not value) if isinstance(value, bool) else value
        assert plugin.settings({name: other})[name] == other


def test_settings_are_checked_by_their_annotations_all_at_once():
    linear = load("schedules", "linear")
    with pytest.raises(ValidationError) as caught:
        linear.settings({"start": -1, "end": "soon"})
    assert {error["loc"] for error in caught.value.errors()} == {("start",), ("end",)}
    assert linear.settings({"start": "2"}) == {"start": 2.0, "end": 0.0}


def rows(num_rows=6):
    logit = torch.tensor([-40.0, -1.0, 0.0, 0.5, 2.0, 40.0])[:num_rows]
    teacher = Scores(logit=logit, hidden=torch.ones(num_rows, 2), members=torch.stack([logit + 1, logit - 1], dim=1))
    batch = Batch.example(label=[0.0, 1.0] * (num_rows // 2), request=[0, 0, 0, 1, 1, 2][:num_rows], teacher=teacher)
    return dataclasses.replace(batch, ids=torch.arange(num_rows).unsqueeze(1))


STUDENT = Scores(logit=torch.tensor([3.0, -40.0, 0.0, 40.0, 0.5, -1.0]))
WIDTHS = Widths(fields=("a",), field=2, pooled=2, blocks=(4, 3), hidden=3)
ROW_LOGITS = RowLogits(row_id=torch.arange(5), logit=torch.linspace(-2, 2, 5))  # the last row was never seen
FACTS = Facts(
    base_rate=-0.3,
    row_id=torch.arange(6),
    student=WIDTHS,
    teacher=WIDTHS,
    num_members=2,
    popularity=Popularity(column=0, counts=torch.arange(1.0, 7.0)),
    item_vectors=torch.eye(6),
    others=dict.fromkeys(("previous_teacher", "previous_student", "first_generation"), ROW_LOGITS),
)


def ready(plugin, **settings):
    return made(Choice(plugin=plugin, settings=plugin.settings(settings)), FACTS)


@of("targets")
def test_a_target_keeps_rows_and_what_it_was_given(plugin):
    batch = rows()
    before = batch.teacher.logit.clone()
    found = ready(plugin)(batch.teacher, batch, *([STUDENT] if "student" in plugin.needs else []))
    assert isinstance(found, Scores)
    assert found.logit.shape == before.shape
    assert found.logit.dtype == before.dtype
    assert torch.isfinite(found.logit).all()
    assert torch.equal(batch.teacher.logit, before)
    assert torch.equal(found.hidden, batch.teacher.hidden)


@pytest.mark.parametrize("name", ["affine", "clip", "keep_top"])
def test_a_target_that_promises_it_keeps_the_order_inside_requests(name):
    batch = rows()
    found = ready(load("targets", name))(batch.teacher, batch).logit
    assert all(found[i + 1] >= found[i] for i in range(5) if batch.request[i] == batch.request[i + 1])


@of("selection")
def test_a_selection_gives_a_finite_weight_per_row_without_a_gradient(plugin):
    extra = [*([STUDENT] if "student" in plugin.needs else []), *([0.5] if "progress" in plugin.needs else [])]
    weight = ready(plugin)(rows(), *extra)
    assert weight.shape == (6,)
    assert weight.dtype == torch.float32
    assert torch.isfinite(weight).all()
    assert (weight >= 0).all()
    assert weight.sum() > 0
    assert not weight.requires_grad


@of("schedules")
def test_a_schedule_gives_multipliers_that_are_not_negative(plugin):
    schedule = ready(plugin)
    for progress in (0.0, 0.3, 1.0):
        found = schedule(progress)
        assert isinstance(found, Multipliers)
        assert found.label >= 0
        assert found.teacher >= 0
        assert found.trains is None or found.trains <= {0, 1, 2, 3}


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
    scores, batch = Scores(logit=torch.tensor([3.0, -5.0])), rows(2)
    assert clip(affine(scores, batch, scale=2.0, shift=1.0), batch, limit=4.0).logit.tolist() == [4.0, -4.0]
    assert affine(clip(scores, batch, limit=4.0), batch, scale=2.0, shift=1.0).logit.tolist() == [7.0, -7.0]


def test_annealing_takes_from_the_teacher_what_the_labels_gain():
    annealing = load("schedules", "annealing").make
    assert all(annealing(p, start=0.2).label + annealing(p, start=0.2).teacher == pytest.approx(1) for p in (0, 0.4, 1))
    assert [annealing(p).label for p in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]


def test_cosine_begins_and_ends_where_linear_does_and_moves_most_in_the_middle():
    cosine = load("schedules", "cosine").make
    found = [cosine(p, start=0.9, end=0.1).teacher for p in (0.0, 0.1, 0.5, 0.6, 1.0)]
    assert found[0] == pytest.approx(0.9)
    assert found[-1] == pytest.approx(0.1)
    assert found[0] - found[1] < found[2] - found[3]


def test_windows_that_meet_cover_every_moment_once():
    window = load("schedules", "window").make
    for progress in (0.0, 0.3, 0.6, 0.9, 1.0):
        assert window(progress, until=0.6).label + window(progress, start=0.6).label == 1.0


def test_stages_go_up_from_the_tables_and_end_with_the_head_alone():
    plugin = load("schedules", "stagewise")
    frozen, trained = (ready(plugin, below=below, head=0.4) for below in ("frozen", "trained"))
    assert [sorted(frozen(p).trains) for p in (0.0, 0.25, 0.45, 0.7)] == [[0], [1], [2], [3]]
    assert [sorted(trained(p).trains) for p in (0.0, 0.25, 0.45, 0.7)] == [[0], [0, 1], [0, 1, 2], [3]]
    assert [(frozen(p).label, frozen(p).teacher) for p in (0.0, 0.59, 0.6)] == [(0, 1), (0, 1), (1, 0)]


def test_continuation_follows_the_papers_numbers():
    """T_max = 10 over 30 epochs, psi = epoch / 40 would reach 1 at epoch 40; here at the share `rise`."""
    continuation = load("schedules", "continuation").make
    for epoch in range(30):
        temperature = 10 - epoch // 3  # one step every floor(30 / 10) epochs
        phi = 1 - (temperature - 1) / 10
        assert continuation(epoch / 30, steps=10).settings["phi"] == pytest.approx(phi), epoch


def test_most_uncertain_takes_the_nearest_to_one_half_and_student_entropy_weighs_smoothly():
    batch = rows()
    chosen = load("selection", "most_uncertain").make(batch, STUDENT, share=0.5)
    assert chosen.tolist() == [0, 0, 1, 0, 1, 1]
    sure, unsure = (ready(load("selection", "student_entropy"), sure=sure)(batch, STUDENT) for sure in (True, False))
    assert torch.allclose(sure + unsure, torch.ones(6))
    assert unsure[1] < 1e-9
    assert unsure[2] == 1.0


def test_rank_gap_weighs_what_the_teacher_ranks_higher():
    """Request 0: the teacher says rows 2, 1, 0, the student 0, 2, 1."""
    weight = load("selection", "rank_gap").make(rows(), STUDENT, scale=1.0)
    assert weight[:3].tolist() == pytest.approx([0.0, math.tanh(1), math.tanh(1)])


def test_teacher_right_and_wrong_share_out_the_rows():
    """Request 0 (labels 0, 1, 0; scores -40, -1, 0): row 2 is above the clicked one. Request 1 (1, 0; 0.5, 2): both."""
    select = load("selection", "teacher_right").make
    assert select(rows(), right=True).tolist() == [1, 0, 0, 0, 0, 1]
    assert select(rows(), right=False).tolist() == [0, 1, 1, 1, 1, 0]


def test_condensation_thins_what_the_student_is_surest_of_and_keeps_the_mean():
    condensation = ready(load("selection", "condensation"), keep=0.5, stages=2, thinned=0.25)
    batch = rows()
    assert condensation(batch, STUDENT, 0.0).tolist() == [1.0] * 6
    later = torch.stack([condensation(batch, STUDENT, 0.5) for _ in range(2000)])
    surest = STUDENT.logit.abs().argsort(descending=True)[:3]
    assert set(surest.tolist()) == {0, 1, 3}
    assert later[:, surest].unique().tolist() == [0.0, 4.0]
    assert torch.allclose(later[:, surest].mean(dim=0), torch.ones(3), atol=0.15)
    assert (later[:, [2, 4, 5]] == 1).all()


def test_condensation_knows_its_rows_after_a_restart():
    one, other = (ready(load("selection", "condensation"), keep=0.5, stages=2) for _ in range(2))
    one(rows(), STUDENT, 0.0)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(rows(), STUDENT, 0.6), other(rows(), STUDENT, 0.6))


def test_noise_has_the_spread_that_it_promises_and_is_a_rows_own():
    noise = load("targets", "noise").make
    batch = Batch.example(label=[0.0] * 4000)
    teacher = Scores(logit=torch.linspace(-3, 3, 4000))
    added = noise(teacher, batch, sigma=0.5).logit - teacher.logit
    assert added.mean().abs() < 0.05
    assert added.std() == pytest.approx(0.5 * teacher.logit.std().item(), rel=0.05)
    part = noise(Scores(logit=teacher.logit), dataclasses.replace(batch, row_id=batch.row_id.flip(0)), sigma=0.5)
    assert torch.allclose((part.logit - teacher.logit).flip(0), added, atol=1e-6)


def test_keep_top_keeps_the_head_of_a_list_and_flattens_its_tail():
    batch = dataclasses.replace(rows(), request=torch.zeros(6, dtype=torch.int64))
    teacher = Scores(logit=torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
    mass, kept = (
        torch.softmax(teacher.logit, 0),
        load("targets", "keep_top").make(teacher, batch, share=1 / 3).logit.exp(),
    )
    assert torch.allclose(kept[4:], mass[4:])
    assert torch.allclose(kept[:4], mass[:4].mean().expand(4))
    assert kept.sum().item() == pytest.approx(1.0)


def test_keep_true_knows_nothing_of_what_was_not_clicked():
    batch = dataclasses.replace(rows(), request=torch.zeros(6, dtype=torch.int64))
    teacher = Scores(logit=torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
    kept = load("targets", "keep_true").make(teacher, batch).logit.exp()
    assert torch.allclose(kept[1::2], torch.softmax(teacher.logit, 0)[1::2])
    assert kept[::2].unique(sorted=True).numel() == 1
    assert kept.sum().item() == pytest.approx(1.0)


def test_two_teachers_mix_by_what_the_student_knows():
    small = ROW_LOGITS.of(torch.arange(6))[0]
    mixed = ready(load("targets", "two_teachers"))(rows().teacher, rows(), STUDENT).logit
    assert mixed[1] == rows().teacher.logit[1]  # sure: the large one
    assert mixed[2] == small[2]  # knows nothing: the small one


def test_swapping_twice_changes_nothing_more_and_right_requests_not_at_all():
    swap, batch = load("targets", "swap_wrong").make, rows()
    once = swap(batch.teacher, batch)
    assert once.logit.tolist() == [-40.0, 0.0, -1.0, 2.0, 0.5, 40.0]
    assert torch.equal(swap(once, batch).logit, once.logit)

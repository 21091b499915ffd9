"""Rows of a user next to each other are scored as each by itself, whatever the lengths of the runs."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from serve_world import ITEM, TYPES, make_bundle, random_rows
from test_serve_scorer import EXACT, bundle, rich, students, whole_rows  # noqa: F401 fixtures

from recdistill.data.encoder import Encoder
from recdistill.serve import Scorer
from recdistill.serve import scorer as module
from recdistill.serve.plan import Plan
from recdistill.serve.roles import Role
from recdistill.serve.runs import RunPlan, run_roles


def in_runs(names, lengths, seed=0):
    """Rows of len(lengths) users, each with as many items."""
    users = random_rows(names, len(lengths), seed)
    rows = random_rows(names, sum(lengths), seed + 1)
    places = np.repeat(np.arange(len(lengths)), lengths)
    return [{**users[u], **{n: row[n] for n in ITEM}} for u, row in zip(places, rows, strict=True)]


def batch(rows):
    schema = pa.schema([(name, TYPES[name]) for name in rows[0]])
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def plans(scorer):
    return [type(plan) for plan in scorer.forms._by_runs.values()]


@pytest.mark.parametrize("which", ["bundle", "rich"])
def test_runs_of_any_length_score_as_whole_rows(which, request, monkeypatch):
    folder = request.getfixturevalue(which)
    monkeypatch.setattr(module, "_ROWS", 64)  # runs go on over the parts, and the last part is short
    scorer = Scorer(folder)
    rows = in_runs(scorer.encoder.needed, [40, 20, 30, 9, 100, 1, 1, 1, 1, 40])
    assert np.abs(scorer.rows(batch(rows)) - whole_rows(folder, rows)).max() < EXACT
    assert plans(scorer) == [RunPlan]


def test_what_changes_with_each_row_is_not_taken_for_the_runs(rich, monkeypatch):  # noqa: F811
    """Users of whom one column changes all the time: their others are still computed once."""
    monkeypatch.setattr(module, "_ROWS", 64)
    scorer = Scorer(rich)
    rows = in_runs(scorer.encoder.needed, [50, 50])
    for row, other in zip(rows, random_rows(scorer.encoder.needed, 100, seed=7), strict=True):
        row["country"] = other["country"]
    assert np.abs(scorer.rows(batch(rows)) - whole_rows(rich, rows)).max() < EXACT
    assert plans(scorer) == [RunPlan]
    (roles,) = scorer.forms._by_runs
    by_feature = {f.name: roles.ids[f.start] for f in scorer.encoder.layout.ids}
    assert by_feature["user_id"] is Role.ITEM
    assert by_feature["country"] is by_feature["item_id"] is Role.EACH


@pytest.mark.parametrize("lengths", [[1] * 100, [60]])
def test_rows_without_runs_and_few_rows_are_scored_as_before(bundle, lengths, monkeypatch):  # noqa: F811
    monkeypatch.setattr(module, "_ROWS", 64)
    scorer = Scorer(bundle)
    rows = in_runs(scorer.encoder.needed, lengths)
    assert np.abs(scorer.rows(batch(rows)) - whole_rows(bundle, rows)).max() < EXACT
    assert RunPlan not in plans(scorer)


def test_equal_rows_have_nothing_that_changes(bundle, monkeypatch):  # noqa: F811
    monkeypatch.setattr(module, "_ROWS", 64)
    scorer = Scorer(bundle)
    rows = in_runs(scorer.encoder.needed, [1]) * 100
    assert np.abs(scorer.rows(batch(rows)) - whole_rows(bundle, rows)).max() < EXACT
    assert plans(scorer) == [Plan]


def test_columns_join_the_runs_while_a_quarter_of_the_rows_begin_one():
    """Of 8 changes a quarter is 2: b's two and a's one of them are 2 together; c's two are others."""
    a, b, c = [0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 5, 5, 5, 5, 6, 6, 6, 6]
    none = np.zeros((9, 0))
    assert run_roles(np.array([b, a, c]).T, none).ids == (Role.ITEM, Role.ITEM, Role.EACH)
    assert run_roles(np.array([c]).T, np.array([a]).T).ids == (Role.EACH,)
    assert run_roles(np.array([c]).T, np.array([a]).T).dense == (Role.ITEM,)


def test_a_column_that_hardly_changes_among_many_that_do_makes_no_runs():
    rows = np.arange(9 * 8).reshape(9, 8)
    rows[:, 3] = 7
    assert set(run_roles(rows, np.zeros((9, 0))).ids) == {Role.EACH, Role.ITEM}
    assert set(run_roles(rows, rows[:, :1] + 0.5).ids) == {Role.EACH}  # one of 9


@pytest.mark.slow
@pytest.mark.parametrize("number", range(9))
def test_every_kind_of_student_scores_runs_as_whole_rows(tiny_prepared, tmp_path, monkeypatch, number):
    torch.manual_seed(number)
    monkeypatch.setattr(module, "_ROWS", 64)
    name, student = list(students(Encoder.open(tiny_prepared / "encoder").layout))[number]
    folder = make_bundle(tiny_prepared, tmp_path / "bundle", student=student)
    scorer = Scorer(folder)
    rows = in_runs(scorer.encoder.needed, [50, 7, 60], seed=number)
    assert np.abs(scorer.rows(batch(rows)) - whole_rows(folder, rows)).max() < EXACT, name
    assert plans(scorer) == [RunPlan], name

"""The score step: every row of every window, kept across a kill -9, refused where the teacher is broken."""

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import make_run

from recdistill import score as module
from recdistill.data.batches import Batches
from recdistill.data.candidates import candidates_name, open_candidates
from recdistill.data.scores import open_scores
from recdistill.data.split import SPLITS
from recdistill.data.store import open_rows
from recdistill.files import whole_folder
from recdistill.problems import BadInput
from recdistill.score import score
from recdistill.train.predict import load_weights, predict
from recdistill.train.teachers.teacher import open_teacher, train_teacher

CPU = torch.device("cpu")
TWO = {"members": 2, "bf16": "off"}


@pytest.fixture(scope="module")
def trained(tiny_log, tiny_prepared, tmp_path_factory) -> Path:
    """A train_teacher folder of two members."""
    root = tmp_path_factory.mktemp("teacher")
    with whole_folder(root / "train", {"key": "t" * 64}) as out:
        train_teacher(make_run(tiny_log, root, teacher=TWO), {"prepare": tiny_prepared}, out)
    return root / "train"


def scored(log, prepared, trained, root, **settings):
    """(run, folder) of a score step."""
    run = make_run(log, root, teacher=TWO, score=settings)
    with whole_folder(root / "score", {"key": "s" * 64}) as out:
        score(run, {"prepare": prepared, "train_teacher": trained}, out)
    return run, root / "score"


def test_every_window_holds_what_the_teacher_says(tiny_log, tiny_prepared, trained, tmp_path):
    run, folder = scored(tiny_log, tiny_prepared, trained, tmp_path, rows_per_segment=500, members=True, hidden="int8")
    with open_teacher(run, open_rows(tiny_prepared, "train").layout, trained) as teacher:
        for window in SPLITS:
            rows = open_rows(tiny_prepared, window)
            stored = open_scores(folder, window, rows, tiny_prepared)
            assert np.abs(stored.logit - predict(teacher, rows, CPU)).max() < 1e-5
            index = np.array([5, 0, len(rows) - 1])
            with torch.no_grad():
                said = teacher(torch.from_numpy(rows.ids(index)), torch.from_numpy(rows.dense(index)))
            got = stored.at(index)
            assert torch.allclose(got.members, said.members, atol=1e-5)
            assert torch.allclose(got.variance, said.variance, atol=1e-5)
            step = said.hidden.abs().amax(dim=1, keepdim=True) / 254
            assert ((got.hidden - said.hidden).abs() <= step * 1.01).all()
            assert len(list((folder / window).glob("*.arrow"))) == -(-len(rows) // 500)
    assert not (tmp_path / "run/scoring").exists()


def test_only_what_is_asked_for_is_stored(tiny_log, tiny_prepared, trained, tmp_path):
    _, folder = scored(tiny_log, tiny_prepared, trained, tmp_path)
    stored = open_scores(folder, "valid", open_rows(tiny_prepared, "valid"), tiny_prepared)
    assert (stored.hidden, stored.members) == (None, None)
    assert (stored.variance > 0).all()


def test_a_killed_pass_goes_on_where_it_was(tiny_log, tiny_prepared, trained, tmp_path):
    _, undisturbed = scored(tiny_log, tiny_prepared, trained, tmp_path / "whole", rows_per_segment=40)
    program = (
        "import sys, pathlib; sys.path.insert(0, 'tests'); from test_score import scored;"
        "scored(*map(pathlib.Path, sys.argv[1:]), rows_per_segment=40)"
    )
    paths = [str(path) for path in (tiny_log, tiny_prepared, trained, tmp_path / "killed")]
    process = subprocess.Popen([sys.executable, "-c", program, *paths], cwd=Path(__file__).parent.parent)
    work = tmp_path / "killed/run/scoring"
    until = time.monotonic() + 120
    while len(list(work.glob("*/train/*.arrow"))) < 5:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)
    process.kill()
    process.wait()
    before = {path.name: path.stat().st_ino for path in work.glob("*/train/*.arrow")}
    assert 5 <= len(before) < -(-len(open_rows(tiny_prepared, "train")) // 40)
    _, folder = scored(tiny_log, tiny_prepared, trained, tmp_path / "killed", rows_per_segment=40)
    after = {path.name: path.stat().st_ino for path in (folder / "train").glob("*.arrow")}
    assert {name: after[name] for name in before} == before
    for path in sorted(undisturbed.rglob("*.arrow")):
        assert (folder / path.relative_to(undisturbed)).read_bytes() == path.read_bytes()


def test_what_another_teacher_left_unfinished_is_removed(tiny_log, tiny_prepared, trained, tmp_path):
    other = tmp_path / "run/scoring/0123456789ab/train"
    other.mkdir(parents=True)
    (other / "000000.arrow").write_bytes(b"another's")
    scored(tiny_log, tiny_prepared, trained, tmp_path)
    assert not other.exists()


def test_a_teacher_with_one_bad_row_is_refused_before_anything_is_scored(
    tiny_log, tiny_prepared, trained, tmp_path, monkeypatch
):
    weights = load_weights(trained, "weights-1.safetensors")
    table = next(name for name in weights if "item_id" in name)
    weights[table][17, 3] = math.nan
    with whole_folder(tmp_path / "train", {"key": "t" * 64}) as out:
        for path in trained.glob("[!_]*"):
            if path.is_file():
                (out / path.name).write_bytes(path.read_bytes())
        safetensors.torch.save_file(weights, out / "weights-1.safetensors")
    monkeypatch.setattr(module, "score_window", lambda *_: pytest.fail("scored"))
    with pytest.raises(BadInput) as told:
        scored(tiny_log, tiny_prepared, tmp_path / "train", tmp_path)
    (line,) = told.value.problems
    assert f"weights-1.safetensors: {table}: wanted finite numbers" in line
    assert "first in row 17" in line
    assert not (tmp_path / "score").exists()


@pytest.mark.parametrize("by", ["teacher_top", "random", "popular"])
def test_candidates_are_scored_and_stored_as_rows_to_learn_from(tiny_log, tiny_prepared, trained, tmp_path, by):
    asked = {"per_request": 3, "by": by, "pool": 20, "item_columns": ["categories", "price"]}
    run, folder = scored(tiny_log, tiny_prepared, trained, tmp_path, rows_per_segment=400, candidates=asked)
    with open_teacher(run, open_rows(tiny_prepared, "train").layout, trained) as teacher:
        for window in SPLITS:
            rows = open_candidates(folder, window, tiny_prepared)
            stored = open_scores(folder, candidates_name(window), rows, tiny_prepared)
            assert len(rows) > 100
            assert np.abs(stored.logit - predict(teacher, rows, CPU)).max() < 1e-5
            assert not list((folder / candidates_name(window)).glob("[0-9]*.npy"))
    batch = next(Batches(rows=rows, batch_size=50, shuffle="requests", teacher=stored).epoch(0))
    assert (batch.row_id < 0).all()
    assert torch.equal(batch.label, torch.zeros(len(batch)))
    assert batch.teacher.logit.std() > 0


def test_the_teachers_top_lies_above_a_random_pool(tiny_log, tiny_prepared, trained, tmp_path):
    means = {}
    for by in ("teacher_top", "random"):
        asked = {"per_request": 2, "by": by, "pool": 30, "item_columns": ["categories", "price"]}
        _, folder = scored(tiny_log, tiny_prepared, trained, tmp_path / by, candidates=asked)
        rows = open_candidates(folder, "valid", tiny_prepared)
        means[by] = open_scores(folder, candidates_name("valid"), rows, tiny_prepared).logit.mean()
    assert means["teacher_top"] > means["random"] + 0.1


def test_no_candidates_where_none_were_asked_for(tiny_log, tiny_prepared, trained, tmp_path):
    _, folder = scored(tiny_log, tiny_prepared, trained, tmp_path)
    with pytest.raises(BadInput, match=r"wanted candidates of the window, found none; set score\.candidates"):
        open_candidates(folder, "train", tiny_prepared)

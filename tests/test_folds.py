"""Out-of-fold scores: parts of the train window, teachers that see nothing of theirs, and the store of both."""

import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import make_run

from recdistill.config.teacher import Folds
from recdistill.data.batches import Batches
from recdistill.data.scores import open_scores
from recdistill.data.store import ROWS, open_rows
from recdistill.files import whole_folder
from recdistill.score import score
from recdistill.train.device import choose_device
from recdistill.train.predict import predict
from recdistill.train.teachers.fit import fit_teacher, seen_without
from recdistill.train.teachers.folds import OUT_OF_FOLD, fold_of
from recdistill.train.teachers.shard import world
from recdistill.train.teachers.teacher import open_fold, train_teacher

CPU = torch.device("cpu")
FOLDS = {"folds": {"count": 2, "by": "user"}, "bf16": "off"}


@pytest.fixture(scope="module")
def rows(tiny_prepared):
    return open_rows(tiny_prepared, "train")


def test_a_users_rows_are_in_one_part_and_no_part_is_empty(rows):
    fold = fold_of(rows, Folds(count=3, by="user"))
    assert len(set(zip(rows["user"].tolist(), fold.tolist(), strict=True))) == len(set(rows["user"].tolist()))
    assert (np.bincount(fold, minlength=3) > 0).all()


def test_parts_by_time_follow_one_another_and_are_as_large(rows):
    fold = fold_of(rows, Folds(count=3, by="time"))
    sizes = np.bincount(fold)
    assert len(sizes) == 3
    assert sizes.max() - sizes.min() <= 1
    times = [rows["time"][fold == part] for part in range(3)]
    assert all(earlier.max() <= later.min() for earlier, later in pairwise(times))


def test_a_teacher_without_a_part_learns_nothing_from_its_labels(tiny_log, tiny_prepared, rows, tmp_path):
    settings = make_run(tiny_log, tmp_path, teacher=FOLDS).teacher
    shutil.copytree(tiny_prepared, tmp_path / "other")
    path = tmp_path / "other/rows/train" / ROWS
    records = np.load(path)
    hidden = fold_of(rows, settings.folds) == 1
    records["label"][hidden] = 1 - records["label"][hidden]
    np.save(path, records)
    with world(choose_device("cpu")) as here:
        before, after, of_all, all_after = (
            fit_teacher("teacher", settings, 0, folder, here, fold=fold).weights
            for fold in (1, None)
            for folder in (tiny_prepared, tmp_path / "other")
        )
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(of_all[name], all_after[name]) for name in of_all)


def test_every_row_is_scored_by_the_teacher_that_did_not_see_it(tiny_log, tiny_prepared, rows, tmp_path):
    run = make_run(tiny_log, tmp_path, teacher=FOLDS, score={"rows_per_segment": 500})
    folders = {"prepare": tiny_prepared, "train_teacher": tmp_path / "train", "score": tmp_path / "score"}
    for step, name in ((train_teacher, "train_teacher"), (score, "score")):
        with whole_folder(folders[name], {"key": name * 4}) as out:
            step(run, folders, out)
    found = open_scores(folders["score"], OUT_OF_FOLD, rows, tiny_prepared).logit
    fold = fold_of(rows, run.teacher.folds)
    for part in range(2):
        with open_fold(run, rows.layout, folders["train_teacher"], part) as teacher:
            said = predict(teacher, rows, CPU)
        assert np.abs(found - said)[fold == part].max() < 1e-5
        assert np.abs(found - said)[fold != part].max() > 1e-3
    assert len(list((folders["score"] / OUT_OF_FOLD).glob("*.arrow"))) > 2  # so that parts were cut


def test_the_batches_of_a_part_hold_its_rows_once_and_no_others(tiny_log, rows, tmp_path):
    settings = make_run(tiny_log, tmp_path, teacher=FOLDS).teacher
    among = seen_without(0, rows, settings)
    for shuffle in ("rows", "requests", None):
        batches = Batches(rows=rows, batch_size=64, shuffle=shuffle, among=among)
        seen = np.concatenate([batch.row_id.numpy() for batch in batches.epoch(0)])
        assert sorted(seen) == sorted(rows["row_id"][among])
    assert batches.num_rows == len(among) < len(rows)

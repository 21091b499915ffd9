"""Snapshots: stopped after any step a training goes on to the same bits; what is damaged or another's is refused."""

from __future__ import annotations

import errno
import itertools
import logging

import numpy as np
import pytest
import torch
from test_loop import rows
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill import files
from recdistill.config.training import Training
from recdistill.data.batches import Batches
from recdistill.metrics.ranking import plain_auc
from recdistill.problems import BadInput
from recdistill.train.engine import checkpoint
from recdistill.train.engine.checkpoint import Snapshots
from recdistill.train.engine.loop import train
from recdistill.train.engine.snapshot_folders import differences, follow, forget

SETTINGS = {
    "epochs": 2,
    "patience": 9,
    "batch_size": 7,
    "checks_per_epoch": 2,
    "learning_rate": 0.05,
    "embedding_learning_rate": 0.1,
    "schedule": "cosine",
    "warmup": 0.1,
    "embedding_schedule": "linear",
    "clip_norm": 0.5,
    "ema": 0.8,
    "snapshot_every": 1,
}
NUM_STEPS = 2 * 9  # 60 rows in batches of 7


class Stopped(Exception):
    """What kill -9 does, but for the process."""


class Training1:
    """A small network with all that a step depends on: dropout, Adam, a second optimiser, an average of weights."""

    def __init__(self, root, identity=None, seed=0, **settings):
        torch.manual_seed(seed)
        self.settings = Training(**{**SETTINGS, **settings})
        self.net = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.3), nn.ReLU(), nn.Linear(4, 1))
        self.steps = 0
        identity = {"seed": seed, "rows": "all"} if identity is None else identity
        self.snapshots = Snapshots(
            root, "a net", identity, settings=self.settings, model=lambda: self.net.state_dict(keep_vars=True)
        )

    def run(self, stop_after=None, broken_at=()):
        window, other = rows(), rows(200, seed=1)

        def losses(batch, progress):
            if self.steps == stop_after:
                raise Stopped
            self.steps += 1
            logit = self.net(batch.dense).squeeze(1)
            loss = binary_cross_entropy_with_logits(logit, batch.label)
            return {"loss": loss * (float("nan") if self.steps in broken_at else 1.0)}

        def valid_auc():
            self.net.eval()
            with torch.no_grad():
                auc = plain_auc(self.net(torch.from_numpy(other["dense"].copy())).squeeze(1).numpy(), other["label"])
            self.net.train()
            return auc

        return train(
            "a net",
            self.settings,
            Batches(rows=window, batch_size=7, shuffle="rows", seed=3),
            losses=losses,
            optimisers=[
                torch.optim.Adam(self.net[0].parameters(), 0.05),
                torch.optim.Adagrad(self.net[3].parameters(), 0.1),
            ],
            valid_auc=valid_auc,
            weights=dict,
            snapshots=self.snapshots,
        )

    def stop(self, after):
        with pytest.raises(Stopped):
            self.run(stop_after=after)
        return self


def same(one, other):
    assert one.weights.keys() == other.weights.keys()
    assert len(one.weights) == 4
    told = [[(c.step, c.epoch, c.valid_auc, c.losses) for c in trained.curve] for trained in (one, other)]
    return told[0] == told[1] and all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return Training1(tmp_path_factory.mktemp("undisturbed")).run()


@pytest.mark.parametrize(
    "step", [s if s in (0, 1, 5, 9, 17) else pytest.param(s, marks=pytest.mark.slow) for s in range(NUM_STEPS)]
)
def test_stopped_after_any_step_it_goes_on_to_the_same_bits(undisturbed, tmp_path, step):
    Training1(tmp_path).stop(after=step)
    again = Training1(tmp_path, seed=0)
    assert same(again.run(), undisturbed)
    assert again.steps == NUM_STEPS - step


@pytest.mark.parametrize("every", [4, 100])
def test_what_was_done_since_the_last_snapshot_is_done_again(undisturbed, tmp_path, every):
    """From step 12 or, where there was no snapshot yet, from the first one."""
    Training1(tmp_path, snapshot_every=every).stop(after=14)
    again = Training1(tmp_path, snapshot_every=every)
    assert same(again.run(), undisturbed)
    assert again.steps == NUM_STEPS - (12 if every == 4 else 0)


def test_stopped_again_and_again_it_ends_with_the_same_bits(undisturbed, tmp_path):
    for _ in range(NUM_STEPS // 2 - 1):
        Training1(tmp_path).stop(after=2)
    assert same(Training1(tmp_path).run(), undisturbed)


def test_snapshots_that_are_written_change_nothing(undisturbed, tmp_path):
    assert same(Training1(tmp_path, snapshot_every="1h").run(), undisturbed)


def test_a_finished_training_is_taken_up_at_its_end(undisturbed, tmp_path):
    Training1(tmp_path).run()
    again = Training1(tmp_path)
    assert same(again.run(), undisturbed)
    assert again.steps == 0


@pytest.mark.parametrize("kept", [1, 3])
def test_as_many_are_kept_as_asked_and_the_best_apart(tmp_path, kept):
    stopped = Training1(tmp_path, snapshots_kept=kept).stop(after=16)
    stopped.snapshots.close()
    folder = stopped.snapshots.folder
    steps = sorted(path.name for path in folder.glob("step-*"))
    assert steps == [f"step-{step:09d}-0" for step in range(17 - kept, 17)]
    best = {files.read_json(folder / step / checkpoint.COURSE)["kept"] for step in steps}
    assert {path.name for path in folder.glob("best-*")} == best
    assert None not in best
    assert all(files.damage(path) == [] for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["step", "best"])
def test_a_flipped_bit_is_noticed_and_the_snapshot_before_it_taken(undisturbed, tmp_path, caplog, kind):
    stopped = Training1(tmp_path, snapshots_kept=9).stop(after=11)
    stopped.snapshots.close()
    path = sorted(stopped.snapshots.folder.glob(f"{kind}-*/rank-0.safetensors"))[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    again = Training1(tmp_path, snapshots_kept=9)
    with caplog.at_level(logging.WARNING, logger="recdistill"):
        assert same(again.run(), undisturbed)
    assert again.steps > NUM_STEPS - 11
    assert "content differs from its sha256; the snapshot before it is taken" in caplog.text


def test_a_half_written_snapshot_is_never_taken(undisturbed, tmp_path):
    stopped = Training1(tmp_path).stop(after=5)
    stopped.snapshots.close()
    newest = sorted(stopped.snapshots.folder.glob("step-*"))[-1]
    for name in (".unfinished-parts-step-000000006-0", ".unfinished-step-000000006-0-99"):
        (newest.parent / name).mkdir()
        (newest.parent / name / "rank-0.safetensors").write_bytes(b"half")
    again = Training1(tmp_path)
    assert same(again.run(), undisturbed)
    assert again.steps == NUM_STEPS - 5
    assert not list(newest.parent.glob(".unfinished-*"))


def test_snapshots_of_another_training_are_named_and_not_taken(tmp_path, caplog):
    Training1(tmp_path, identity={"settings": {"learning_rate": 0.1, "width": 8}, "seed": 1}).stop(after=3)
    again = Training1(tmp_path, identity={"settings": {"learning_rate": 0.2, "width": 8}, "seed": 1})
    with caplog.at_level(logging.WARNING, logger="recdistill"):
        again.run()
    assert again.steps == NUM_STEPS
    assert "are of another training (settings.learning_rate is 0.1, not 0.2)" in caplog.text


def test_a_snapshot_that_lies_where_it_does_not_belong_is_refused(tmp_path):
    one = Training1(tmp_path, identity={"vocabulary": "a", "data": "x"}).stop(after=3).snapshots
    one.close()
    other = Training1(tmp_path, identity={"vocabulary": "b", "data": "x"})
    one.folder.rename(other.snapshots.folder)
    with pytest.raises(BadInput, match="wanted a snapshot of this training, found vocabulary is a, not b; remove "):
        other.run()


def test_a_full_disk_costs_the_snapshot_and_not_the_training(undisturbed, tmp_path, caplog, monkeypatch):
    written = checkpoint.write_pieces
    counted = itertools.count()

    def full(folder, held, rank):
        written(folder, held, rank)
        if "step-" in folder.name and next(counted) in (4, 5):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_pieces", full)
    found = Training1(tmp_path)
    with caplog.at_level(logging.WARNING, logger="recdistill"):
        assert same(found.run(), undisturbed)
    assert caplog.text.count("No space left on device; the one before it is kept") == 2
    assert not list(found.snapshots.folder.glob(".unfinished-*"))


def test_no_room_for_the_best_weights_is_told_and_the_rerun_goes_on(undisturbed, tmp_path, monkeypatch):
    written = checkpoint.write_pieces

    def full(folder, held, rank):
        if "best-000000014" in folder.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(folder, held, rank)

    monkeypatch.setattr(checkpoint, "write_pieces", full)
    with pytest.raises(BadInput, match="wanted room for the best weights, found No space left on device; make room"):
        Training1(tmp_path).run()
    monkeypatch.undo()
    again = Training1(tmp_path)
    assert same(again.run(), undisturbed)
    assert again.steps < NUM_STEPS


def test_a_training_that_breaks_goes_back_and_on_with_half_the_rates(tmp_path, caplog):
    found = Training1(tmp_path, snapshot_every=5)
    with caplog.at_level(logging.WARNING, logger="recdistill"):
        trained = found.run(broken_at=[13])
    assert "step 13: wanted a finite loss, found nan over 7 rows, rows " in caplog.text
    assert "back from step 14 to 10, learning rates times 0.5" in caplog.text
    assert trained.rewinds == 1
    assert found.steps == NUM_STEPS + 4
    assert [check.step for check in trained.curve] == [5, 9, 14, 18]
    assert all(torch.isfinite(value).all() for value in trained.weights.values())


def test_one_that_breaks_again_and_again_ends_with_the_step_and_its_rows(tmp_path):
    found = Training1(tmp_path, snapshot_every=5, max_rewinds=2)
    with pytest.raises(
        BadInput, match=r"a net: step 11: wanted a finite loss, found nan over 7 rows, rows [\d, ]+ and"
    ):
        found.run(broken_at=range(13, 99))
    assert found.steps == 14 + 4 + 4
    names = sorted(path.name for path in found.snapshots.folder.glob("step-*"))
    assert names == ["step-000000010-1", "step-000000010-2"]


def test_a_table_that_is_not_finite_is_never_in_a_snapshot(tmp_path):
    found = Training1(tmp_path, snapshot_every=3)

    def spoil():
        with torch.no_grad():
            found.net[3].weight[0, 2] = float("inf")
        return 0.5

    with pytest.raises(BadInput, match=r"wanted weights of finite numbers, found model\.3\.weight: rows 0; lower"):
        train(
            "a net",
            found.settings.model_copy(update={"ema": None}),
            Batches(rows=rows(), batch_size=7),
            losses=lambda batch, progress: {"loss": found.net[0](batch.dense).sum()},
            optimisers=[torch.optim.SGD(found.net[0].parameters(), 1e-3)],
            valid_auc=spoil,
            weights=dict,
            snapshots=found.snapshots,
        )
    for path in found.snapshots.folder.glob("step-*"):
        assert files.damage(path) == []


def test_two_identities_differ_where_they_differ():
    one = {"settings": {"width": 8, "layers": [1, 2]}, "seed": 1, "gone": 3}
    assert differences(one, one) == []
    assert differences(one, {"settings": {"width": 8, "layers": [2]}, "seed": 1, "new": 4}) == [
        "settings.layers is [1, 2], not [2]",
        "gone is 3, not None",
        "new is None, not 4",
    ]


def test_snapshots_go_when_their_step_is_finished(tmp_path):
    root = tmp_path / "snapshots"
    one, other = (Training1(root, identity={"seed": seed}).stop(after=2).snapshots for seed in (1, 2))
    for snapshots in (one, other):
        snapshots.close()
    finished = tmp_path / "train_teacher-abc"
    finished.mkdir()
    forget(tmp_path, finished)
    assert one.folder.is_dir()
    follow(finished, [one.folder.name])
    forget(tmp_path, finished)
    assert not one.folder.exists()
    assert other.folder.is_dir()
    follow(finished, [other.folder.name])
    forget(tmp_path, finished)
    assert not root.exists()
    forget(tmp_path, finished)


def test_what_a_snapshot_holds_is_no_code(tmp_path):
    stopped = Training1(tmp_path).stop(after=2)
    stopped.snapshots.close()
    found = [path for path in stopped.snapshots.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in found} == {".json", ".safetensors"}
    assert np.all([path.read_bytes()[:2] != b"\x80\x04" for path in found])

"""A killed training goes on to the same bits: the real command, kill -9 at any moment, and every single step."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import make_run

from recdistill.config.run import Run
from recdistill.files import damage, read_json
from recdistill.pipeline import run_all

WEIGHTS = "weights-0.safetensors"
TEACHER = {
    "epochs": 3,
    "patience": 3,
    "batch_size": 128,
    "checks_per_epoch": 2,
    "snapshot_every": 4,
    "width": 8,
    "interaction": {"use": "dcnv2", "layers": 1, "hidden": [16], "dropout": 0.2},
    "schedule": "cosine",
    "warmup": 0.1,
    "clip_norm": 1.0,
    "ema": 0.9,
}
STILL = {"use": "dcnv2", "layers": 1, "hidden": [16]}  # without dropout, which differs between ranks


@pytest.fixture(scope="module")
def undisturbed(tiny_log, tmp_path_factory):
    """A folder that is prepared and no more, and the sha256 of the weights that a training left alone ends with."""
    root = tmp_path_factory.mktemp("resume")
    run_all(write_config(tiny_log, root), until="prepare")
    shutil.copytree(root / "run", root / "whole" / "run")
    run_all(write_config(tiny_log, root / "whole"), until="train_teacher")
    return root, sha256(root / "whole")


def write_config(log: Path, root: Path, **settings) -> Run:
    run = make_run(log, root, teacher={**TEACHER, **settings})
    root.mkdir(exist_ok=True)
    (root / "run.yaml").write_text(yaml.safe_dump(run.model_dump(mode="json", exclude_unset=True)))
    return run


def train_by_command(root: Path) -> subprocess.Popen:
    """The real command line, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}
    call = [sys.executable, "-m", "recdistill", "train-teacher", str(root / "run.yaml")]
    return subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, stderr=(root / "said.txt").open("a"))


def folder(root: Path) -> Path:
    (found,) = (root / "run").glob("train_teacher-*")
    assert damage(found) == []
    return found


def sha256(root: Path) -> str:
    return hashlib.sha256((folder(root) / WEIGHTS).read_bytes()).hexdigest()


def steps(root: Path) -> list[int]:
    """Of the snapshots that there are."""
    return sorted(int(path.name.split("-")[1]) for path in (root / "run").glob("snapshots/*/step-*"))


def writing(root: Path) -> bool:
    return any((root / "run").glob("snapshots/*/.unfinished-*"))


def kill_when(root: Path, when) -> bool:
    """Train until `when()`, then kill -9; False where training ended before."""
    process = train_by_command(root)
    while process.poll() is None:
        if when():
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            return True
        time.sleep(0.0005)
    assert process.returncode == 0, (root / "said.txt").read_text()
    return False


def kill_and_go_on(undisturbed, tiny_log, root: Path, moments) -> int:
    """Kill at each moment in turn, going on in between; how many kills there were before it ended by itself."""
    prepared, wanted = undisturbed
    shutil.copytree(prepared / "run", root / "run")
    run = write_config(tiny_log, root)
    killed = sum(1 for when in moments if kill_when(root, lambda when=when: when(root)))
    run_all(run, until="train_teacher")
    assert sha256(root) == wanted
    assert not (root / "run" / "snapshots").exists()
    return killed


def test_killed_between_and_inside_snapshots_it_ends_with_the_same_bits(undisturbed, tiny_log, tmp_path):
    moments = [
        lambda root: len(steps(root)) >= 2,
        lambda root: max(steps(root)) >= 24 and writing(root),
    ]
    assert kill_and_go_on(undisturbed, tiny_log, tmp_path, moments) == 2
    assert "goes on from step" in (tmp_path / "said.txt").read_text()  # the second time, instead of beginning anew
    curves = [teacher(root)["curve"] for root in (tmp_path, undisturbed[0] / "whole")]
    told, wanted = ([(c["step"], c["valid_auc"], c["losses"]) for c in curve] for curve in curves)
    assert len(wanted) >= 4
    assert told == wanted


def test_sigterm_ends_it_with_a_status_of_its_own_and_loses_no_step(undisturbed, tiny_log, tmp_path):
    """No snapshot is due for an hour."""
    shutil.copytree(undisturbed[0] / "run", tmp_path / "run")
    run = write_config(tiny_log, tmp_path, snapshot_every="1h")
    process = train_by_command(tmp_path)
    while not any((tmp_path / "run").glob("snapshots/*/best-*")):
        time.sleep(0.01)
        assert process.poll() is None, (tmp_path / "said.txt").read_text()
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    (step,) = steps(tmp_path)
    assert step >= 17  # the first check is at 17
    run_all(run, until="train_teacher")
    assert sha256(tmp_path) == undisturbed[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_moments_it_ends_with_the_same_bits(undisturbed, tiny_log, tmp_path, seed):
    """Four times within the two seconds or so that training takes once there is a snapshot."""
    generator = random.Random(seed)

    def after(wait_s: float):
        begun: list[float] = []

        def when(root: Path) -> bool:
            if not begun and any((root / "run").glob("snapshots/*/*")):
                begun.append(time.monotonic())
            return bool(begun) and time.monotonic() - begun[0] > wait_s

        return when

    moments = [after(generator.random()) for _ in range(4)]
    assert kill_and_go_on(undisturbed, tiny_log, tmp_path, moments) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_two_ranks_that_were_killed_go_on_as_two_or_as_one(undisturbed, tiny_log, tmp_path, ranks):
    """Not to the same bits, as sums are taken in another order, but step by step to about the same losses.

    Where two become one, the first mean after it is without what the other rank had summed up since the last check.
    """
    shutil.copytree(undisturbed[0] / "run", tmp_path / "run")
    write_config(tiny_log, tmp_path, ranks=2, interaction=STILL)
    assert kill_when(tmp_path, lambda: len(steps(tmp_path)) >= 2)
    run_all(write_config(tiny_log, tmp_path, ranks=ranks, interaction=STILL), until="train_teacher")
    shutil.copytree(undisturbed[0] / "run", tmp_path / "alone" / "run")
    run_all(write_config(tiny_log, tmp_path / "alone", interaction=STILL), until="train_teacher")
    found, alone = (teacher(root)["curve"] for root in (tmp_path, tmp_path / "alone"))
    assert len(alone) >= 4
    assert [check["step"] for check in found] == [check["step"] for check in alone]
    for one, other in zip(found, alone, strict=True):
        assert one["valid_auc"] == pytest.approx(other["valid_auc"], abs=0.01)
        assert one["losses"]["loss"] == pytest.approx(other["losses"]["loss"], rel=0.05)


def teacher(root: Path):
    return read_json(folder(root) / "teacher.json")

"""Several real processes by torchrun over the loopback: what one process learns, and an end when one is killed."""

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import make_run
from pydantic import ValidationError

from recdistill.data.batches import Batches, Position
from recdistill.data.scores import open_scores
from recdistill.data.store import open_rows
from recdistill.files import read_json, whole_folder
from recdistill.problems import BadInput
from recdistill.score import score
from recdistill.train.engine.ranks import turns
from recdistill.train.predict import load_weights
from recdistill.train.teachers.launch import LAUNCHER, RENDEZVOUS, named
from recdistill.train.teachers.teacher import train_teacher
from recdistill.train.teachers.worker import work

# Float32 throughout, so that what differs between one process and several is the order of sums alone.
TEACHER = {"epochs": 1, "checks_per_epoch": 3, "patience": 3, "batch_size": 240, "bf16": "off"}


def trained(log, prepared, root, **teacher):
    """(run, folder) of a teacher trained on the tiny log."""
    run = make_run(log, root, teacher={**TEACHER, **teacher})
    with whole_folder(root / "train", {"key": "t" * 64}) as out:
        train_teacher(run, {"prepare": prepared}, out)
    return run, root / "train"


@pytest.fixture(scope="module")
def alone(tiny_log, tiny_prepared, tmp_path_factory):
    """One process."""
    return trained(tiny_log, tiny_prepared, tmp_path_factory.mktemp("alone"))


def same_curve(one, other, loss=2e-5, auc=1e-3):
    curves = [read_json(folder / "teacher.json")["curve"] for folder in (one, other)]
    assert len(curves[0]) == len(curves[1]) == 3
    for left, right in zip(*curves, strict=True):
        assert (left["epoch"], left["step"]) == (right["epoch"], right["step"])
        assert left["losses"]["loss"] == pytest.approx(right["losses"]["loss"], abs=loss)
        assert left["valid_auc"] == pytest.approx(right["valid_auc"], abs=auc)


def scored(run, folder, prepared, root):
    """Folder of the score store."""
    with whole_folder(root / "score", {"key": "s" * 64}) as out:
        score(run, {"prepare": prepared, "train_teacher": folder}, out)
    return root / "score"


def test_two_processes_learn_and_say_what_one_does(alone, tiny_log, tiny_prepared, tmp_path):
    run, folder = trained(tiny_log, tiny_prepared, tmp_path, ranks=2, sharding=["table_wise", "row_wise"])
    about = read_json(folder / "teacher.json")
    assert about["processes"] == 2
    assert {part["rank"] for part in about["members"][0]["plan"]} == {0, 1}
    same_curve(alone[1], folder)
    one, two = load_weights(alone[1]), load_weights(folder)
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in two.items()}
    run = run.model_copy(update={"score": run.score.model_copy(update={"rows_per_segment": 333})})
    stores = [scored(*alone, tiny_prepared, tmp_path / "one"), scored(run, folder, tiny_prepared, tmp_path / "two")]
    for window in ("train", "valid", "test"):
        rows = open_rows(tiny_prepared, window)
        here, there = (open_scores(store, window, rows, tiny_prepared).logit for store in stores)
        assert len(here) == len(rows)
        assert np.abs(here - there).max() < 0.01
    assert len(list((stores[1] / "train").glob("*.arrow"))) == -(-len(open_rows(tiny_prepared, "train")) // 333)


@pytest.mark.parametrize(("num_rows", "world"), [(4200, 2), (4199, 4), (245, 4), (3, 4), (1, 2)])
def test_every_row_is_learnt_from_once_an_epoch_in_as_many_steps_on_each_rank(tiny_prepared, num_rows, world):
    rows = open_rows(tiny_prepared, "train")
    rows = dataclasses.replace(rows, records=rows.records[:num_rows])
    steps = []
    for rank in range(world):
        batches = Batches(rows=rows, batch_size=240 // world, shuffle="rows", seed=3, rank=rank, world=world)
        steps.append(list(itertools.takewhile(lambda turn: turn.position.epoch < 2, turns(batches, Position()))))
    assert len({len(taken) for taken in steps}) == 1
    counted = Counter(
        (turn.position.epoch, int(row)) for taken in steps for turn in taken if turn.share for row in turn.batch.row_id
    )
    assert set(counted) == {(epoch, int(row)) for epoch in (0, 1) for row in rows["row_id"]}
    assert set(counted.values()) == {1}
    for together in zip(*steps, strict=True):
        assert sum(turn.share * 1.0 for turn in together) == pytest.approx(world)


@pytest.mark.slow
def test_four_processes_too_and_tables_in_columns(alone, tiny_log, tiny_prepared, tmp_path):
    _, folder = trained(tiny_log, tiny_prepared, tmp_path / "rows", ranks=4, sharding=["table_wise", "row_wise"])
    same_curve(alone[1], folder)
    _, folder = trained(tiny_log, tiny_prepared, tmp_path / "columns", ranks=2, sharding=["column_wise"])
    parts = read_json(folder / "teacher.json")["members"][0]["plan"]
    assert {part["columns"] for part in parts} == {4}
    same_curve(alone[1], folder, loss=2e-3, auc=0.02)  # a part keeps a row's Adagrad state by itself


@pytest.mark.slow
@pytest.mark.parametrize("communication", ["fp16", "int8"])
def test_embeddings_may_be_sent_in_fewer_bits(tiny_log, tiny_prepared, tmp_path, communication):
    teacher = {"ranks": 2, "width": 32, "sharding": ["table_wise", "row_wise"]}
    whole = trained(tiny_log, tiny_prepared, tmp_path / "fp32", **teacher)[1]
    fewer = trained(tiny_log, tiny_prepared, tmp_path / "fewer", **teacher, communication=communication)[1]
    with pytest.raises(AssertionError):
        same_curve(whole, fewer, loss=1e-7, auc=0)
    same_curve(whole, fewer, loss=5e-3, auc=0.02)


def test_int8_wants_whole_rows_of_32_numbers(tiny_run):
    with pytest.raises(ValidationError, match="width: wanted a multiple of 32 beside communication: int8, found 8"):
        tiny_run(teacher={"communication": "int8"})


def workers(root):
    """Rank -> process of the workers whose job lies under this folder."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "torch.distributed.run" in line or not any(part.startswith(f"{root}/run/jobs") for part in line):
            continue
        with contextlib.suppress(psutil.Error):
            if "RANK" in process.environ():
                found[int(process.environ()["RANK"])] = process
    return found


def wait_for(found, seconds=120):
    """What `found` finds, as soon as it does."""
    until = time.monotonic() + seconds
    while not (what := found()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return what


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_which_goes_on_from_its_last_snapshot(tiny_log, tiny_prepared, tmp_path, capfd):
    logging.getLogger("recdistill").setLevel(logging.INFO)
    teacher = {**TEACHER, "epochs": 3, "ranks": 2, "sharding": ["table_wise", "row_wise"]}
    teacher |= {"snapshot_every": 4, "patience": 9, "restarts": 1}
    undisturbed = trained(tiny_log, tiny_prepared, tmp_path / "undisturbed", **teacher)[1]
    capfd.readouterr()
    killed = []

    def kill():
        wait_for(lambda: list((tmp_path / "killed/run/snapshots").glob("*/step-*")))
        killed.append(workers(tmp_path / "killed")[1])
        killed[0].kill()
        killed.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    folder = trained(tiny_log, tiny_prepared, tmp_path / "killed", **teacher)[1]
    took = time.monotonic() - killed[1]
    killer.join()
    assert "teacher: goes on from step" in capfd.readouterr().err
    assert took < 300
    curves = [read_json(each / "teacher.json")["curve"] for each in (undisturbed, folder)]
    assert len(curves[0]) == 9
    for left, right in zip(*curves, strict=True):
        assert left["losses"] == pytest.approx(right["losses"], abs=1e-6)
        assert left["valid_auc"] == pytest.approx(right["valid_auc"], abs=1e-6)


@pytest.mark.slow
def test_processes_that_die_too_often_are_told_in_one_line(tiny_log, tiny_prepared, tmp_path):
    def kill():
        wait_for(lambda: workers(tmp_path).get(0)).kill()

    threading.Thread(target=kill).start()
    with pytest.raises(BadInput, match="wanted processes that end well, found exit status 1 after 0 restarts"):
        trained(tiny_log, tiny_prepared, tmp_path, ranks=2, restarts=0, epochs=50, patience=200)
    assert not (tmp_path / "train").exists()


@pytest.mark.slow
def test_what_is_wrong_with_the_input_is_told_once_and_not_tried_again(tiny_log, tiny_prepared, tmp_path, capfd):
    with pytest.raises(BadInput, match="teacher") as told:
        trained(tiny_log, tiny_prepared, tmp_path, ranks=2, learning_rate=1e30, max_rewinds=0)
    assert all(": wanted " in line for line in told.value.problems)
    assert "Traceback" not in capfd.readouterr().err


def started(log, prepared, root, **teacher):
    """A process of its own that trains in two more."""
    program = (
        "import sys, pathlib, json; sys.path.insert(0, 'tests'); from test_launch import trained;"
        "trained(*map(pathlib.Path, sys.argv[1:4]), ranks=2, epochs=500, patience=2000, **json.loads(sys.argv[4]))"
    )
    command = [sys.executable, "-c", program, str(log), str(prepared), str(root), json.dumps(teacher)]
    return subprocess.Popen(command, cwd=Path(__file__).parent.parent, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_the_processes_end_when_nobody_waits_for_them(tiny_log, tiny_prepared, tmp_path):
    launcher = started(tiny_log, tiny_prepared, tmp_path)
    try:
        wait_for(lambda: len(workers(tmp_path)) == 2)
        found = workers(tmp_path)
    finally:
        launcher.kill()
        launcher.wait()
    for process in found.values():
        process.wait(timeout=60)
    wait_for(lambda: not workers(tmp_path), 120)


@pytest.mark.slow
def test_a_job_that_is_asked_to_end_writes_a_snapshot_first(tiny_log, tiny_prepared, tmp_path):
    launcher = started(tiny_log, tiny_prepared, tmp_path, snapshot_every=10**9)
    try:
        wait_for(lambda: list((tmp_path / "run/snapshots").glob("*/best-*")))  # a check was made: it is training
        assert not list((tmp_path / "run/snapshots").glob("*/step-*"))
        launcher.terminate()
        assert launcher.wait(60) == 128 + signal.SIGTERM
    finally:
        launcher.kill()
    assert list((tmp_path / "run/snapshots").glob("*/step-*/_manifest.json"))
    assert not workers(tmp_path)
    assert not (tmp_path / "train").exists()


@pytest.mark.slow
def test_two_hosts_meet_where_the_environment_says(alone, tiny_log, tiny_prepared, tmp_path, monkeypatch, caplog):
    """Both on this machine: what the first tells the others to run is run as it stands."""
    caplog.set_level(logging.INFO, "recdistill")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosts = {"hosts": 2, "sharding": ["table_wise", "row_wise"]}
    with pytest.raises(BadInput, match="RECDISTILL_RENDEZVOUS: wanted host:port where the hosts meet, found ''"):
        trained(tiny_log, tiny_prepared, tmp_path / "nowhere", **hosts)
    monkeypatch.setenv(RENDEZVOUS, f"127.0.0.1:{port}")
    others = []

    def join():
        told = wait_for(lambda: [m for m in caplog.messages if m.startswith("on each of the other hosts")])
        others.append(subprocess.Popen(told[0].partition(": ")[2].split(), env={**os.environ, "OMP_NUM_THREADS": "1"}))

    joining = threading.Thread(target=join)
    joining.start()
    _, folder = trained(tiny_log, tiny_prepared, tmp_path / "two", **hosts)
    joining.join()
    assert others[0].wait(60) == 0
    assert read_json(folder / "teacher.json")["processes"] == 2
    same_curve(alone[1], folder)


def test_a_process_of_a_launcher_that_was_killed_leaves_the_next_ones_job_alone(tiny_run, tmp_path, monkeypatch):
    """Its torchrun begins it again, and by then the job's file is that of the launcher that came after."""
    me = {"pid": os.getpid(), "started": psutil.Process().create_time(), "host": os.uname().nodename}
    job, called = tmp_path / "teacher.json", []
    about = {"run": tiny_run().model_dump(mode="json"), "inputs": {}, "out": str(tmp_path), "launcher": me, "level": 30}
    job.write_text(json.dumps(about))
    monkeypatch.setattr(sys, "argv", ["worker", str(job)])
    monkeypatch.setattr("recdistill.train.teachers.worker.world", lambda _: contextlib.nullcontext())
    monkeypatch.setenv("RANK", "0")
    for launcher, calls in ((named({**me, "pid": 1}), 0), (named(me), 1), (None, 2)):  # None: on another host
        monkeypatch.delenv(LAUNCHER, raising=False)
        if launcher is not None:
            monkeypatch.setenv(LAUNCHER, launcher)
        work(lambda *_: called.append(1))
        assert len(called) == calls

"""A claim is one process's at a time, and the next one's when its owner was killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from recdistill.files import read_json, write_json
from recdistill.windows.claims import Lost, claim, owner_of

ROOT = Path(__file__).resolve().parent.parent
HOLD = "import sys, time; from pathlib import Path; from recdistill.windows.claims import claim\n"
HOLD += "with claim(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "claims" / "window.json"


@pytest.fixture
def holder(path):
    """Another process that holds the claim."""
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def in_thread(path, **settings):
    """Take the claim in a thread: (thread, what happened)."""
    happened = []

    def take():
        with claim(path, **settings):
            happened.append("taken")

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return thread, happened


def test_a_claim_says_whose_it_is_and_is_gone_afterwards(path):
    with claim(path) as mine:
        assert owner_of(path) == mine.owner
        assert (mine.owner.pid, mine.owner.is_dead) == (os.getpid(), False)
        mine.check()
    assert owner_of(path) is None


def test_it_is_freed_when_the_work_breaks(path):
    with pytest.raises(ZeroDivisionError), claim(path):
        raise ZeroDivisionError
    assert owner_of(path) is None


def test_one_waits_while_the_owner_lives_and_takes_over_when_it_is_killed(path, holder):
    assert owner_of(path).pid == holder.pid
    thread, happened = in_thread(path)
    time.sleep(1)
    assert happened == []
    holder.send_signal(signal.SIGKILL)  # and nobody reaps it: a zombie is dead, too
    thread.join(timeout=30)
    assert happened == ["taken"]


def test_many_that_wait_are_let_in_one_at_a_time(path):
    inside, most = [], []

    def work():
        with claim(path):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert most == [1, 1, 1, 1]


def elsewhere(path):
    """Make the claim one of another machine."""
    write_json(path, {**read_json(path), "host": "elsewhere", "pid": 1})


def test_a_silent_owner_on_another_host_is_taken_for_dead_after_its_lease(path, holder):
    holder.kill()
    elsewhere(path)
    assert owner_of(path).is_dead is None
    thread, happened = in_thread(path, lease_s=1.0)
    thread.join(timeout=30)
    assert happened == ["taken"]


@pytest.mark.slow
def test_one_that_renews_its_lease_keeps_the_claim(path, holder):
    holder.kill()
    elsewhere(path)
    thread, happened = in_thread(path, lease_s=2.0)
    for _ in range(8):
        time.sleep(0.5)
        os.utime(path)
    assert happened == []
    path.unlink()
    thread.join(timeout=30)
    assert happened == ["taken"]


def test_an_owner_that_lost_its_claim_is_told_and_leaves_the_others_alone(path):
    with claim(path) as mine:
        other = replace(mine.owner, token="other")
        path.write_text(json.dumps({name: getattr(other, name) for name in ("host", "pid", "started", "token")}))
        with pytest.raises(Lost):
            mine.check()
    assert owner_of(path) == other

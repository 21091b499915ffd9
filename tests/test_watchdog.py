"""A training that stands still ends, in bounded time, with the stacks of all threads; one that goes on does not."""

import signal
import subprocess
import sys
import time

from recdistill.train.engine.watchdog import Watchdog

HANGING = """
import sys, time
from pathlib import Path
from recdistill.train.engine.watchdog import Watchdog
def a_collective_that_never_ends():
    {hang}
with Watchdog(Path(sys.argv[1]), 2.0) as dog:
    for _ in range(3):
        time.sleep(0.2)
        dog.beat()
    Path(sys.argv[1]).with_name("steps").write_text("3")
    a_collective_that_never_ends()
"""


def hang(tmp_path, code):
    path = tmp_path / "stacks.txt"
    command = [sys.executable, "-c", HANGING.format(hang=code), str(path)]
    died = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (tmp_path / "steps").read_text() == "3"
    return died, path


def test_a_hang_ends_by_a_signal_with_the_stack_of_where_it_hangs(tmp_path):
    died, path = hang(tmp_path, "time.sleep(1000)")
    assert died.returncode == -signal.SIGABRT
    assert "a_collective_that_never_ends" in path.read_text()
    assert "in _watch" in path.read_text()
    assert f"no step ended within 2 s: the stacks are in {path}" in died.stderr


def test_a_hang_that_holds_pythons_lock_ends_too(tmp_path):
    """PyDLL keeps the lock while it sleeps."""
    died, _ = hang(tmp_path, "import ctypes; ctypes.PyDLL(None).sleep(1000)")
    assert died.returncode == 1
    assert "a_collective_that_never_ends" in died.stderr


def test_work_within_the_limit_leaves_no_file(tmp_path):
    with Watchdog(tmp_path / "stacks.txt", 60) as dog:
        dog.beat()
    assert list(tmp_path.iterdir()) == []


def test_without_a_file_nothing_is_watched():
    with Watchdog(None, 0.01):
        time.sleep(0.1)

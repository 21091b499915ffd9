"""Freed memory: what a process keeps is not faulted in again."""

import os
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import numpy as np
if sys.argv[1] == "kept":
    from recdistill.heap import keep_freed_memory
    keep_freed_memory()
def step():
    return np.ones(8 << 20).sum()  # 64 MiB, which glibc maps anew each time
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    plain = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}  # huge pages, where the kernel has some free, fault seldom
    done = subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True, env=plain)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator alone is told to keep memory")
def test_steps_that_free_and_ask_again_do_not_fault_their_pages_in_again():
    kept, given_back = faults("kept"), faults("given back")
    assert given_back > 100_000
    assert kept < given_back / 20

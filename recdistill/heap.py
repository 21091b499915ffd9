"""What happens to memory that is freed: kept for the next step, or given back and faulted in anew, page by page."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of malloc.h
_MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Ask glibc to keep what is freed; elsewhere nothing happens. Call it once, before the work.

    A training step frees activations of many megabytes and asks for as many again. By default each of them is a mapping
    of its own, whose pages the kernel must clear and map at every step: a third of the time of a teacher's step on a
    CPU (`python benchmarks/heap.py`). The process then stays as large as it ever was.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _MOST)
        mallopt(_TOP_PAD, 64 << 20)

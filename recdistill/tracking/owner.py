"""Whose a run is: the machine and the process that write it, and whether that process still lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import psutil

HOST, PID, BORN = "recdistill.host", "recdistill.pid", "recdistill.born"
SEEN = "recdistill.seen"
"""When a process of another machine last said that it lives, in seconds since 1970."""


def this_process() -> dict[str, str]:
    """The tags of a run that this process writes."""
    pid = os.getpid()
    return {HOST: socket.gethostname(), PID: str(pid), BORN: repr(psutil.Process(pid).create_time())}


def is_dead(tags: Mapping[str, str], *, last_sign: float, now: float, stale_s: float) -> bool:
    """Whether the writer of a run has ended: by its process on this machine, on another by its silence.

    last_sign, now: seconds since 1970. A process number that another process has by now does not deceive it.

    >>> is_dead({HOST: "elsewhere"}, last_sign=100.0, now=150.0, stale_s=60.0)
    False
    >>> is_dead({HOST: "elsewhere"}, last_sign=100.0, now=200.0, stale_s=60.0)
    True
    """
    if tags.get(HOST) == socket.gethostname() and PID in tags:
        return living(int(tags[PID]), float(tags[BORN])) is None
    return now - last_sign > stale_s


def living(pid: int, born: float) -> psutil.Process | None:
    """The process of this number and birth (seconds since 1970); None where it has ended."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - born) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if same else None

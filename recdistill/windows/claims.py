"""One process at a time works on a window: a claim that says whose it is, and is taken over when its owner is dead."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from recdistill.files import read_json, write_json
from recdistill.tracking.owner import living

LEASE_S = 90.0
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """host, pid and started (seconds since 1970, of the process) name a process for good; token one claim of it."""

    host: str
    pid: int
    started: float
    token: str

    @property
    def is_dead(self) -> bool | None:
        """Whether the process is gone; None of one on another host, which only its lease tells about."""
        return living(self.pid, self.started) is None if self.host == socket.gethostname() else None


class Lost(RuntimeError):
    """The claim was taken over: this process was taken for dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    path: Path
    owner: Owner

    def check(self) -> None:
        """Lost where it is another's by now."""
        if owner_of(self.path) != self.owner:
            raise Lost(f"{self.path}: wanted this process's own claim, found {owner_of(self.path)}")


def owner_of(path: Path) -> Owner | None:
    """Who holds a claim; None where nobody does."""
    try:
        return Owner(**read_json(path))
    except FileNotFoundError:
        return None


@contextmanager
def claim(path: Path, lease_s: float = LEASE_S) -> Iterator[Claim]:
    """Hold the claim at `path`, for which this waits as long as its owner lives.

    An owner on this host is dead when its process is; one on another host when it has not renewed its lease for
    `lease_s` of this process's own clock: hosts need not agree on the time. The claim is changed under a lock of
    its folder that the system frees, and renewed by a thread.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    me = Owner(
        host=socket.gethostname(), pid=os.getpid(), started=psutil.Process().create_time(), token=uuid.uuid4().hex
    )
    _wait(path, me, lease_s)
    done = threading.Event()
    heart = threading.Thread(target=_renew, args=(path, me, lease_s, done), name="claim", daemon=True)
    heart.start()
    try:
        yield Claim(path=path, owner=me)
    finally:
        done.set()
        heart.join()
        with _alone(path.parent):
            if owner_of(path) == me:
                path.unlink()


def _wait(path: Path, me: Owner, lease_s: float) -> None:
    seen: tuple[Owner | None, int] | None = None
    since = time.monotonic()
    while True:
        with _alone(path.parent):
            found = (owner_of(path), _beat(path))
            if found != seen:
                seen, since = found, time.monotonic()
            owner = found[0]
            if owner is None or owner.is_dead or (owner.is_dead is None and time.monotonic() - since > lease_s):
                write_json(path, asdict(me))
                return
        time.sleep(_LOOK_S)


def _renew(path: Path, me: Owner, lease_s: float, done: threading.Event) -> None:
    while not done.wait(lease_s / 5):
        with _alone(path.parent):
            if owner_of(path) == me:
                os.utime(path)


def _beat(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

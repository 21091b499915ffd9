"""The server as a whole: one process a core on sockets that outlive them, and one that asks the registry."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from recdistill.problems import BadInput, problem
from recdistill.serve.settings import LOOPBACK, Settings

logger = logging.getLogger("recdistill.serve")
_LOOK_S = 0.05
_AGAIN_S = 0.5  # between two starts of one process


def listen(host: str, port: int, num: int) -> list[socket.socket]:
    """Sockets on one port, among which the system spreads connections; port 0 takes a free one. BadInput if taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found: list[socket.socket] = []
    for _ in range(num):
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            one.bind((host, found[0].getsockname()[1] if found else port))
        except OSError as error:
            remedy = "stop what runs there, or give another --port"
            where = f"{host}:{port}"
            raise BadInput(problem(where, wanted="a free port", found=str(error.strerror), remedy=remedy)) from None
        one.listen(1024)
        found.append(one)
    return found


def check_token(host: str, token: str | None) -> None:
    """BadInput for a server without a token that others can reach."""
    if host not in LOOPBACK and not token:
        remedy = "set RECDISTILL_TOKEN, or serve on 127.0.0.1"
        raise BadInput(
            problem(f"host {host}", wanted="a token off the loopback interface", found="none", remedy=remedy)
        )


class Child:
    """A process that is started again when it ends, however it ends."""

    def __init__(self, module: str, given: bytes, descriptor: int | None, environment: dict[str, str]) -> None:
        self.command = [sys.executable, "-m", module]
        self.given, self.descriptor, self.environment = given, descriptor, environment
        self.started = 0.0
        self.process: subprocess.Popen[bytes] = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        passed: Sequence[int] = () if self.descriptor is None else (self.descriptor,)
        process = subprocess.Popen(self.command, stdin=subprocess.PIPE, pass_fds=passed, env=self.environment)
        assert process.stdin is not None
        process.stdin.write(self.given)
        process.stdin.close()
        self.started = time.monotonic()
        return process

    def look(self, ended: Callable[[int], None]) -> None:
        """Start it again if it ended a while after its start; `ended` gets the number of the old one."""
        if self.process.poll() is None or time.monotonic() - self.started < _AGAIN_S:
            return
        logger.warning("process %d ended with %d; another one starts", self.process.pid, self.process.returncode)
        ended(self.process.pid)
        self.process = self._start()

    def stop(self, until: float) -> None:
        """Wait for its end after SIGTERM, and end it at the moment `until`."""
        try:
            self.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run(settings: Settings, host: str, port: int, num_workers: int, watch: dict[str, Any] | None) -> None:
    """Serve until SIGTERM or Ctrl-C. watch: what `recdistill.serve.watch` takes; None for a bundle that stays."""
    check_token(host, settings.token)
    sockets = listen(host, port, num_workers)
    counted = tempfile.mkdtemp(prefix="recdistill-metrics-")
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    children: list[Child] = []
    try:
        children = _start(settings, sockets, counted, watch)
        print_ready(f"http://{host}:{sockets[0].getsockname()[1]}")
        while not stopping:
            for child in children:
                child.look(lambda pid: _mark_dead(pid, counted))
            time.sleep(_LOOK_S)
    finally:
        _stop(children, sockets, settings.drain_s)
        shutil.rmtree(counted, ignore_errors=True)


def print_ready(address: str) -> None:
    """The one line on standard output: where the server listens."""
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


def _start(settings: Settings, sockets: list[socket.socket], counted: str, watch: dict[str, Any] | None) -> list[Child]:
    loaded = Path(counted) / "loaded"
    loaded.mkdir()
    settings = msgspec.structs.replace(settings, processes=len(sockets), loaded=str(loaded))
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": counted, "OMP_NUM_THREADS": "1"}
    children = []
    for one in sockets:
        os.set_inheritable(one.fileno(), True)
        given = msgspec.json.encode(msgspec.structs.replace(settings, socket=one.fileno()))
        children.append(Child("recdistill.serve.worker", given, one.fileno(), environment))
    if watch is not None:
        children.append(Child("recdistill.serve.watch", msgspec.json.encode(watch), None, dict(os.environ)))
    return children


def _mark_dead(pid: int, counted: str) -> None:
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid, counted)


def _stop(children: list[Child], sockets: list[socket.socket], drain_s: int) -> None:
    for one in sockets:
        one.close()
    for child in children:
        child.process.terminate()
    until = time.monotonic() + drain_s + 1
    for child in children:
        child.stop(until)


def state_of(name: str, root: Path | None) -> Path:
    """Where a server of this name remembers: under `root`, else under the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(home) / "recdistill" if root is None else root) / name

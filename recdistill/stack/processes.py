"""Processes that outlive the command that started them: started, recognised again by pid and birth, and stopped."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from recdistill import files
from recdistill.problems import BadInput, problem
from recdistill.tracking.owner import living

_PATIENCE_S = 30.0
"""How long a service may take to stop by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process of a stack. ready: whether it answers. port: what it listens on; None for the worker.

    user: whom it runs as where that is not us. stop_with: the signal after which it ends in good order.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    ready: Callable[[], bool]
    port: int | None = None
    user: str | None = None
    stop_with: signal.Signals = signal.SIGTERM

    @property
    def log(self) -> Path:
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def _record(self) -> Path:
        return self.folder / "pids" / f"{self.name}.json"

    def process(self) -> psutil.Process | None:
        """The living process; None where it has ended, whoever has its number by now."""
        if not self._record.is_file():
            return None
        about = files.read_json(self._record)
        return living(about["pid"], about["born"])

    def start(self, project: Path) -> None:
        """Start it in a session of its own, its output at the end of its log."""
        for folder in (self.log.parent, self._record.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                cwd=project,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self.user,
                group=self.user,
            )
        born = psutil.Process(process.pid).create_time()
        files.write_json(self._record, {"pid": process.pid, "born": born})

    def wait(self, timeout_s: float) -> None:
        """Until it answers. BadInput where it ends before or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not self.ready():
            ended = self.process() is None
            if ended or time.monotonic() > deadline:
                found = f"{'an end' if ended else f'no answer in {timeout_s:g} s'}: {self._last_line()}"
                raise BadInput(problem(self.name, wanted="an answer", found=found, remedy=f"read {self.log}"))
            time.sleep(0.2)

    def stop(self) -> None:
        """End it and all that it started: by its signal, and what is left after half a minute by SIGKILL."""
        process = self.process()
        if process is not None:
            family = [process, *process.children(recursive=True)]
            process.send_signal(self.stop_with)
            psutil.wait_procs([process], timeout=_PATIENCE_S)
            for one in family:
                if one.is_running():  # the same process, not another with its number
                    one.kill()
            psutil.wait_procs(family, timeout=_PATIENCE_S)
        self._record.unlink(missing_ok=True)

    def _last_line(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:200] if lines else "it said nothing"


def refuse_ports_in_use(services: Sequence[Service]) -> None:
    """BadInput with a line per port that another program has."""
    lines = [
        problem(
            f"{service.name}: port {service.port}",
            wanted="a free port",
            found=f"{_holder(service.port)} there",
            remedy=f"stop it, or choose another with --{service.name}-port",
        )
        for service in services
        if service.port is not None and service.process() is None and _is_taken(service.port)
    ]
    if lines:
        raise BadInput(lines)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that just closed is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _holder(port: int) -> str:
    try:
        pids = [c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.pid]
        return f"{psutil.Process(pids[0]).name()} (process {pids[0]})" if pids else "another program"
    except (psutil.Error, OSError):
        return "another program"

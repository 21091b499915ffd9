"""Start the processes of one job by torchrun, on this host or as one of several, and wait for them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from recdistill.config.run import Run
from recdistill.files import read_json, write_json
from recdistill.problems import BadInput, problem
from recdistill.train.progress import logger

RENDEZVOUS = "RECDISTILL_RENDEZVOUS"
LAUNCHER = "RECDISTILL_LAUNCHER"
"""Set for the processes of this host: whose job they do. A torchrun whose launcher was killed begins its processes
again, and they must not take up the job of the launcher that came after."""
_LOOK_S = 0.2
_GONE_S = 10.0
# A store of its own for every attempt: a shared one still holds the addresses of processes that died, and torch 2.13
# looks them up, so that those begun again wait for them.
_OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
_QUIET = {"PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}


def launch(module: str, run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Run `module` in teacher.ranks processes, which `worker.work` gives this job; on several hosts, wait for theirs.

    A process that dies ends the others, and all begin again, `teacher.restarts` times at most. BadInput that any of
    them raised is raised here; so it is where they died too often, or where several hosts have no place to meet.
    """
    folder = _jobs(run)
    folder.mkdir(parents=True)
    job = folder / f"{module.rpartition('.')[2]}.json"
    problems = problems_of(job)
    own = psutil.Process()
    launcher = {"pid": own.pid, "started": own.create_time(), "host": os.uname().nodename}
    write_json(
        job,
        {
            "run": run.model_dump(mode="json"),
            "inputs": {name: str(path.absolute()) for name, path in inputs.items()},
            "out": str(out.absolute()),
            "launcher": launcher,
            "level": logger.getEffectiveLevel(),
        },
    )
    try:
        status = _wait(_command(module, run, job), _environment(run) | {LAUNCHER: named(launcher)})
        if problems.is_file():
            raise BadInput(read_json(problems))
    finally:
        shutil.rmtree(folder)
    if status:
        found = f"exit status {status} after {run.teacher.restarts} restarts"
        remedy = "see what they said; another run goes on from the last snapshot"
        raise BadInput(
            problem(f"{module}: teacher.ranks", wanted="processes that end well", found=found, remedy=remedy)
        )


def _wait(command: list[str], environment: Mapping[str, str]) -> int:
    """The exit status of a command. SIGTERM goes on to it, so that it may write a snapshot, and ends this process then.

    In another thread than the main one, where Python takes no signals, SIGTERM is left as it is.
    """
    is_main, told = threading.current_thread() is threading.main_thread(), []
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number)) if is_main else None
    try:
        with subprocess.Popen(command, env=environment) as process:
            while (status := _ended(process)) is None:
                if told:
                    process.terminate()
                    status = process.wait()
                    break
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)
    if told and callable(before):
        before(signal.SIGTERM, None)
    if told:
        raise SystemExit(128 + signal.SIGTERM)
    return status


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(_LOOK_S)
    return None


def end_what_was_left(run: Run) -> None:
    """End the processes on this host of a job whose launcher was killed: for half a second they would go on writing."""
    for job in _jobs(run).glob("*.json"):
        launcher = read_json(job).get("launcher") if not job.stem.endswith("-problems") else None
        if launcher is not None and launcher["host"] == os.uname().nodename and not is_alive(launcher):
            left = [process for process in psutil.process_iter() if _launcher_of(process) == named(launcher)]
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=_GONE_S)
    shutil.rmtree(_jobs(run), ignore_errors=True)


def _jobs(run: Run) -> Path:
    return Path(run.folder) / "jobs"


def _launcher_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(LAUNCHER)
    except psutil.Error:
        return None


def is_alive(launcher: Mapping[str, Any]) -> bool:
    """Whether a launcher on this host still waits for its processes."""
    try:
        process = psutil.Process(launcher["pid"])
        return bool(process.create_time() == launcher["started"]) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def named(launcher: Mapping[str, Any]) -> str:
    """A launcher as one word."""
    return f"{launcher['pid']}-{launcher['started']}"


def problems_of(job: Path) -> Path:
    """Where a process of the job says what was wrong with its input."""
    return job.with_name(f"{job.stem}-problems.json")


def _command(module: str, run: Run, job: Path) -> list[str]:
    """torchrun. On one host it meets on a free port of the loopback; on several the others are told how to join."""
    teacher = run.teacher
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={teacher.ranks}"]
    command += [f"--max-restarts={teacher.restarts}", "--monitor-interval=0.2"]
    if teacher.hosts == 1:
        command += ["--standalone", "--local-addr=127.0.0.1"]
    else:
        command += [f"--nnodes={teacher.hosts}", "--rdzv-backend=c10d", f"--rdzv-id={run.name}-{job.stem}"]
        command += [f"--rdzv-endpoint={_meeting()}"]
    command += ["-m", module, str(job.absolute())]
    if teacher.hosts > 1:
        settings = ["env", *(f"{name}={value}" for name, value in _OWN_STORE.items())]
        logger.info("on each of the other hosts, with the same folders: %s", " ".join([*settings, *command]))
    return command


def _meeting() -> str:
    found = os.environ.get(RENDEZVOUS, "")
    host, _, port = found.rpartition(":")
    if not host or not port.isdigit():
        remedy = "export it on the first host: its own name and a free port"
        raise BadInput(problem(RENDEZVOUS, wanted="host:port where the hosts meet", found=repr(found), remedy=remedy))
    return found


def _environment(run: Run) -> dict[str, str]:
    """This process's, with quieter libraries; gloo on one host stays on the loopback."""
    own = {"GLOO_SOCKET_IFNAME": "lo"} if run.teacher.hosts == 1 and sys.platform == "linux" else {}
    return {**_QUIET, **own, **os.environ, **_OWN_STORE}

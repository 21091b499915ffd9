"""A stack up, down, and how it is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from recdistill import files
from recdistill.problems import BadInput, problem
from recdistill.stack import postgres
from recdistill.stack.layout import POOL, Stack
from recdistill.stack.processes import Service, refuse_ports_in_use
from recdistill.stack.services import services
from recdistill.train.progress import logger

_START_S = 300.0
"""Both servers migrate their databases when they start for the first time."""
_PREPARE = (  # between the servers and the worker: nothing may be at work yet
    ("reconcile", ("recdistill", "reconcile")),
    ("pool", ("prefect", "--no-prompt", "work-pool", "create", POOL, "--type", "process", "--overwrite")),
    ("deploy", ("prefect", "--no-prompt", "deploy", "--all")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A service as it is found. state: running, silent (a process that does not answer) or stopped; pid: or None."""

    name: str
    state: str
    pid: int | None
    port: int | None


def up(stack: Stack) -> None:
    """Start what is not running, each once the one before answers; close what died; deploy the flows; the worker.

    BadInput where a port is taken (a line for each), the project has no prefect.yaml or a service does not come up:
    what this call started is then stopped again.
    """
    if not (stack.project / "prefect.yaml").is_file():
        remedy = "start the stack in the project's folder"
        raise BadInput(problem(str(stack.project), wanted="a prefect.yaml", found="none", remedy=remedy))
    with files.only_one(stack.folder):
        if stack.database == "postgresql":
            postgres.make_cluster(stack)
        every = services(stack)
        refuse_ports_in_use(list(every.values()))
        stack.write()
        sleeping = [service for service in every.values() if service.process() is None]
        try:
            _start_all(stack, every)
        except BaseException:
            for service in reversed(sleeping):
                service.stop()
            raise


def _start_all(stack: Stack, every: dict[str, Service]) -> None:
    for service in every.values():
        if service.name == "worker":
            for title, words in _PREPARE:
                _command(stack, title, words)
        if service.process() is None:
            logger.info("stack: starting %s", service.name)
            if service.name == "postgres":
                postgres.wait_for_the_last(stack)
            service.start(stack.project)
        service.wait(_START_S)
        if service.name == "postgres":
            postgres.make_databases(stack)


def _command(stack: Stack, title: str, words: tuple[str, ...]) -> None:
    """One command against the stack's servers. BadInput, with the last thing it said, where it fails."""
    logger.info("stack: %s", title)
    command = [sys.executable, "-m", *words]
    log = stack.folder / "logs" / f"{title}.log"
    with log.open("w") as output:
        done = subprocess.run(
            command, env=stack.environment(), cwd=stack.project, stdout=output, stderr=output, check=False
        )
    if done.returncode != 0:
        said = [line for line in log.read_text().splitlines() if line.strip()]
        found = f"exit status {done.returncode}: {said[-1].strip() if said else 'it said nothing'}"
        raise BadInput(problem(f"stack: {title}", wanted="exit status 0", found=found, remedy=f"read {log}"))


def down(stack: Stack) -> None:
    """Stop every service, the last one first. Nothing is lost: a run that was at work goes on after the next `up`."""
    with files.only_one(stack.folder):
        for service in reversed(services(stack).values()):
            if service.process() is not None:
                logger.info("stack: stopping %s", service.name)
            service.stop()


def status(stack: Stack) -> list[Condition]:
    """Every service, in the order in which they start."""
    return [_condition(service) for service in services(stack).values()]


def _condition(service: Service) -> Condition:
    process = service.process()
    state = "stopped" if process is None else "running" if service.ready() else "silent"
    return Condition(name=service.name, state=state, pid=process and process.pid, port=service.port)

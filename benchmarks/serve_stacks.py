"""Which HTTP stack costs least: the same scorer behind each, one JSON line: python benchmarks/serve_stacks.py

Requests/s and the server's CPU a request at 100 candidates, 16 connections; stacks take turns, medians of ROUNDS.
uvicorn_empty reads a request and answers nothing: what is left of the others is their own. granian is measured where it
can be imported (pip install granian; GRANIAN=DIR adds a folder to the path).
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
if "GRANIAN" in os.environ:
    sys.path.append(os.environ["GRANIAN"])
from serve import bodies, family, free_port, pin, ready
from serve_bundle import ROOT, write
from serve_load import closed, cpu_s

SECONDS, ROUNDS, CONNECTIONS = 3.0, 5, 16


def _live() -> Any:
    from recdistill.serve.live import Live, load
    from recdistill.serve.settings import Settings
    from recdistill.serve.store import pointer

    settings = Settings(name="bench", state=str(ROOT), items=str(ROOT / "items.parquet"), item_key="item_id")
    live = Live(settings)
    live.model = load(pointer(ROOT / "bundle"), settings)
    return live


def thin() -> Any:
    """Our application, without a framework."""
    from recdistill.serve.app import App

    live = _live()
    return App(live, live.settings)


def empty() -> Any:
    """An application that scores nothing."""
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body", False):
            pass
        await send(head)
        await send({"type": "http.response.body", "body": b"{}"})

    return application


def framework() -> Any:
    """The plain form in FastAPI and pydantic, without limits, queue, metrics or token."""
    from fastapi import FastAPI
    from pydantic import BaseModel, ConfigDict

    class Request(BaseModel):
        model_config = ConfigDict(strict=True, extra="forbid")
        user: dict[str, int]
        items: list[int]

    live, application = _live(), FastAPI()

    @application.get("/health/ready")
    async def is_ready() -> dict[str, bool]:
        return {"ready": True}

    async def score(request: Request) -> dict[str, list[float]]:
        return {"scores": live.model.scorer.score(request.user, items=request.items).tolist()}

    score.__annotations__["request"] = Request  # a class of this function, which a postponed annotation cannot name
    application.post("/score")(score)
    return application


_QUIET = ["--log-level", "error"]
_HTTP = ["--http", "recdistill.serve.protocol:Protocol", "--lifespan", "off"]
_UVICORN = ["--factory", "--no-access-log", *_QUIET, *_HTTP]
STACKS = {
    "uvicorn_empty": ["-m", "uvicorn", "serve_stacks:empty", *_UVICORN],
    "uvicorn_thin": ["-m", "uvicorn", "serve_stacks:thin", *_UVICORN],
    "uvicorn_fastapi": ["-m", "uvicorn", "serve_stacks:framework", "--factory", "--no-access-log", *_QUIET],
    "granian_thin": ["-m", "granian", "--interface", "asgi", "--factory", "serve_stacks:thin", *_QUIET],
}


def main() -> None:
    """Start each, load them in turn, print the medians."""
    write(ROOT)
    stacks = {n: c for n, c in STACKS.items() if "granian" not in n or importlib.util.find_spec("granian")}
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("GRANIAN", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    running: dict[str, tuple[subprocess.Popen[bytes], str]] = {}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in stacks}
    try:
        for name, command in stacks.items():
            port = free_port()
            process = subprocess.Popen([sys.executable, *command, "--port", str(port)], env=environment)
            running[name] = (process, f"http://127.0.0.1:{port}")
            ready(f"http://127.0.0.1:{port}/health/ready")
            for pid in family(process.pid):
                pin(pid)
        for _ in range(ROUNDS):
            for name, (process, address) in running.items():
                before = sum(map(cpu_s, family(process.pid)))
                seen = closed(address, bodies(100), CONNECTIONS, SECONDS)
                cost = (sum(map(cpu_s, family(process.pid))) - before) / len(seen.ok_ms)
                found[name].append((len(seen.ok_ms) / seen.seconds, cost * 1e6))
    finally:
        for process, _ in running.values():
            process.terminate()
    line: dict[str, float] = {}
    for name, rounds in found.items():
        line[f"{name}_rps"] = round(statistics.median(rps for rps, _ in rounds))
        line[f"{name}_cpu_us"] = round(statistics.median(cost for _, cost in rounds), 1)
    print(json.dumps({**line, "load_average": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()

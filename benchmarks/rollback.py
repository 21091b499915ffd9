"""Rollback under scoring load as one JSON line: python benchmarks/rollback.py (minutes; status 1 if a promise breaks).

A real MLflow server, `recdistill serve models:/bench@champion` with two processes and its default of a look every ten
seconds, and eight connections that ask without a pause. `recdistill rollback` is given as a command, three times: with
MLflow answering, killed (kill -9) and hanging (SIGSTOP).

    up_s, killed_s, hanging_s   from the start of the command to the last answer of the version that is taken back
    *_command_s                 of it until the command had ended
    killed_told_s, hanging_told_s   from the moment MLflow answers again until the rollback is in its promotion log
    requests, failed            all answers, and those that were no 200 or no answer; promised: no failure, under 60 s
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from serve_bundle import NUM_KNOWN, USER, write

ROOT = Path("runs/bench-rollback").resolve()
MODEL, PROMISED_S, CONNECTIONS = "bench", 60.0, 8


class Load:
    """Connections that ask one request after another; every answer with its moment and the model that gave it."""

    def __init__(self, address: str) -> None:
        generator = np.random.default_rng(0)
        user = {name: int(generator.integers(0, NUM_KNOWN)) for name in USER}
        self.body = json.dumps({"user": user, "items": generator.integers(0, NUM_KNOWN, 100).tolist()})
        self.host, self.going = address.removeprefix("http://"), True
        self.answers: list[tuple[float, str]] = []
        self.failures: list[str] = []
        self.threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CONNECTIONS)]
        for thread in self.threads:
            thread.start()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        while self.going:
            try:
                connection.request("POST", "/score", self.body)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 200:
                    self.answers.append((time.monotonic(), json.loads(text)["model"]))
                else:
                    self.failures.append(f"{answer.status} {text[:100]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            time.sleep(0.005)

    def only(self, model: str) -> bool:
        """Whether every answer of the last two seconds is of a model."""
        since = time.monotonic() - 2
        last = [name for at, name in self.answers[-100_000:] if at > since]
        return len(last) > CONNECTIONS and set(last) == {model}

    def last_of(self, model: str) -> float:
        """When it answered last."""
        return max(at for at, name in self.answers if name == model)


class Mlflow:
    """A server on a port of its own, whose store outlives it."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{ROOT}/mlflow.db"]
        command += ["--artifacts-destination", str(ROOT / "artifacts"), "--port", str(self.port), "--workers", "1"]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (ROOT / "mlflow.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        wait(lambda: answers(f"{self.url}/health"))

    def signal(self, number: int) -> None:
        """To all its processes."""
        if self.process is not None:
            os.killpg(self.process.pid, number)


def answers(url: str) -> bool:
    """Whether it answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait(done: Callable[[], bool], seconds: float = 300.0) -> None:
    """Until it is so."""
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.1)


def registered(url: str) -> tuple[Any, list[str]]:
    """The registry with two bundles, the second of them champion after the first, and how they name themselves."""
    from recdistill.bundle import bundle_digest
    from recdistill.promotion.registry import open_store

    registry = open_store(url, MODEL)
    names = []
    for seed in (0, 1):
        bundle = write(ROOT / f"seed-{seed}", seed)
        digest = bundle_digest(bundle)
        run = registry.client.create_run(registry.client.create_experiment(f"bench-{seed}"))
        registry.client.log_artifacts(run.info.run_id, str(bundle), "bundle")
        tags = {"bundle_sha256": digest, "verdict": "PASS"}
        registry.register(f"{run.info.artifact_uri}/bundle", run.info.run_id, tags)
        registry.promote(seed + 1, why="bench", key=f"bench-{seed}")
        names.append(digest[:12])
    return registry, names


def roll_back(url: str) -> tuple[float, float]:
    """The command: when it was given, and how many seconds it took."""
    command = [sys.executable, "-m", "recdistill", "rollback", "configs/demo.yaml", f"root={ROOT / 'run'}"]
    command += [f"registry.tracking_uri={url}", f"registry.model={MODEL}", "--state", str(ROOT / "state")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_HTTP_")}
    began = time.monotonic()  # as from a shell: with none of the deadlines that this process has set for itself
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
    return began, time.monotonic() - began


def main() -> int:
    """Three rollbacks, one line."""
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    mlflow = Mlflow()
    mlflow.start()
    server: subprocess.Popen[str] | None = None
    try:
        registry, (old, new) = registered(mlflow.url)
        command = [sys.executable, "-m", "recdistill", "serve", f"models:/{MODEL}@champion", "--port", "0"]
        command += ["--workers", "2", "--tracking-uri", mlflow.url, "--state", str(ROOT / "state")]
        command += ["--items", str(ROOT / "seed-0" / "items.parquet"), "--item-key", "item_id"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        wait(lambda: answers(f"{address}/health/ready"))
        found = drill(mlflow, registry, Load(address), old, new)
    finally:
        mlflow.signal(signal.SIGKILL)
        if server is not None:
            server.terminate()
            server.wait(60)
    print(json.dumps(found))
    ends = [f"{how}{end}" for how in ("up", "killed", "hanging") for end in ("_s", "_command_s")]
    fast = all(found[end] < PROMISED_S for end in ends)
    return 0 if fast and found["failed"] == 0 and found["requests"] else 1


def drill(mlflow: Mlflow, registry: Any, load: Load, old: str, new: str) -> dict[str, Any]:
    """Take the champion back, three times."""
    found: dict[str, Any] = {}
    copy = next((ROOT / "state").iterdir()) / "promotions.jsonl"
    for how in ("up", "killed", "hanging"):
        if how != "up":
            registry.promote(2, why="again", key=f"again-{how}")
        wait(lambda: load.only(new))
        wait(lambda: copy.is_file() and copy.read_text().splitlines() == registry.log_entries())
        if how != "up":
            mlflow.signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        began, took = roll_back(mlflow.url)
        wait(lambda: load.only(old))
        found[f"{how}_s"], found[f"{how}_command_s"] = round(load.last_of(new) - began, 2), round(took, 2)
        if how == "up":
            continue
        time.sleep(15)  # looks at a registry that is away, which must change nothing
        assert load.only(old)
        mlflow.start() if how == "killed" else mlflow.signal(signal.SIGCONT)
        back = time.monotonic()
        wait(lambda: registry.history()[-1].action == "rollback")
        found[f"{how}_told_s"] = round(time.monotonic() - back, 2)
    load.going = False
    print(*dict.fromkeys(load.failures[:1000]), sep="\n", file=sys.stderr)
    return found | {"requests": len(load.answers) + len(load.failures), "failed": len(load.failures)}


if __name__ == "__main__":
    sys.exit(main())

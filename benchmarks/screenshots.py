"""Pictures of the local stack's pages by a real headless browser: python benchmarks/screenshots.py writes docs/*.png

Starts a stack of its own in a temporary folder, has its worker retrain on a small generated log, and stops it again.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 300_000
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
FLAGS += ("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0")
SIZE = (1280, 960)


class Page:
    """A tab of a headless Chromium, driven by its debugging protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection, self.number = connection, 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        self.connection.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.connection.recv(timeout=120))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def text(self) -> str:
        found = self.call("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        return str(found["result"]["value"])

    def open(self, url: str, wanted: list[str], timeout_s: float = 180.0) -> None:
        """Until all the wanted words are on it."""
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + timeout_s
        while missing := [word for word in wanted if word not in self.text()]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url}: no {missing} on it, but {self.text()[:600]!r}")
            time.sleep(0.5)
        time.sleep(3)  # curves and tables are drawn after the words

    def click(self, words: str) -> None:
        """A click of the mouse into the middle of what says exactly these words, the last and innermost of them."""
        find = f"[...document.querySelectorAll('*')].filter(e => e.innerText?.trim() === {words!r}).at(-1)"
        code = (
            f"(() => {{ const r = {find}.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] }})()"
        )
        x, y = self.call("Runtime.evaluate", expression=code, returnByValue=True)["result"]["value"]
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def save(self, path: Path) -> None:
        picture = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(picture))
        size = path.stat().st_size
        assert size < MOST_BYTES, f"{path}: {size} bytes"
        print(f"{path.name}: {size} bytes")


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A new browser with a profile of its own."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        sys.exit("screenshots: wanted chromium on the PATH, found none; install it")
    size = f"--window-size={SIZE[0]},{SIZE[1]}"
    command = [program, *FLAGS, size, f"--user-data-dir={folder}", "about:blank"]
    with (folder.parent / "chromium.log").open("w") as log:
        browser = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        port = _wait_for(folder / "DevToolsActivePort").splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as reply:
            (tab,) = [one for one in json.load(reply) if one["type"] == "page"]
        with connect(tab["webSocketDebuggerUrl"], max_size=None) as connection:
            yield Page(connection)
    finally:
        browser.terminate()
        browser.wait(timeout=30)


def _wait_for(path: Path, timeout_s: float = 120.0) -> str:
    deadline = time.monotonic() + timeout_s
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, path
        time.sleep(0.2)
    return path.read_text()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_ones:
        probes = [open_ones.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def command(*words: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=30
    ) as r:
        return json.load(r)


@contextlib.contextmanager
def stack(folder: Path) -> Iterator[dict[str, str]]:
    """The addresses of a stack that is up: {"prefect", "mlflow"}."""
    ports = dict(zip(("prefect", "mlflow", "postgres"), map(str, free_ports(3)), strict=True))
    options = [word for name, port in ports.items() for word in (f"--{name}-port", port)]
    recdistill = ("recdistill", "stack")
    try:
        shown = command(*recdistill, "up", "--folder", str(folder), *options)
        yield json.loads(shown.splitlines()[-1])
    finally:
        command(*recdistill, "down", "--folder", str(folder))


def retrained(addresses: dict[str, str], folder: Path) -> str:
    """The id of a flow run that the worker completed: a generated log, the demo's config on it."""
    command("recdistill", "synth", str(folder / "log"), "--rows", "20000")
    changed = [f"data.source={folder / 'log'}", f"root={folder / 'run'}", "teacher.epochs=3", "student.epochs=3"]
    wanted = {"config": "configs/demo.yaml", "overrides": [*changed, "student.seeds=1", "evaluate.draws=200"]}
    environment = {"PREFECT_API_URL": f"{addresses['prefect']}/api", "DO_NOT_TRACK": "1"}
    asked = ["deployment", "run", "retrain/adhoc", "--param", f"parameters={json.dumps(wanted)}"]
    command("prefect", "--no-prompt", *asked, environment=environment)
    only = {"flows": {"name": {"any_": ["retrain"]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 1}
    while True:
        (run,) = ask(f"{addresses['prefect']}/api/flow_runs/filter", only)
        if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED"):
            print(f"flow run {run['name']}: {run['state']['name']}: {run['state']['message'] or ''}")
            return str(run["id"])
        time.sleep(2)


def pictures(page: Page, addresses: dict[str, str], flow_run: str, out: Path) -> None:
    """The Prefect run with its tasks and its artifact, the MLflow run with its curves, and the registry."""
    page.call("Page.enable")
    page.open(f"{addresses['prefect']}/runs/flow-run/{flow_run}", ["train_teacher", "Artifacts"])
    page.save(out / "prefect-run.png")
    for words in ("Artifacts", "retrain-result"):
        page.click(words)
        time.sleep(5)
    page.save(out / "prefect-artifacts.png")
    experiments = ask(f"{addresses['mlflow']}/api/2.0/mlflow/experiments/search", {"max_results": 100})["experiments"]
    (own,) = [one["experiment_id"] for one in experiments if one["name"] == "demo"]
    runs = ask(f"{addresses['mlflow']}/api/2.0/mlflow/runs/search", {"experiment_ids": [own]})["runs"]
    ids = {run["info"]["run_name"]: run["info"]["run_id"] for run in runs}
    base = f"{addresses['mlflow']}/#/experiments/{own}/runs"
    page.open(f"{base}/{ids['demo']}", ["Metrics", "recovery"])
    page.save(out / "mlflow-run.png")
    page.open(f"{base}/{ids['student']}/model-metrics", ["seed_0.valid_auc"])
    page.save(out / "mlflow-curves.png")
    page.open(f"{addresses['mlflow']}/#/models/demo-student", ["Version 1", "champion"])
    page.save(out / "mlflow-registry.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where the pictures go")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL, which does not run as root, has to pass
        with stack(folder / "stack") as addresses:
            flow_run = retrained(addresses, folder)
            with chromium(folder / "chromium") as page:
                pictures(page, addresses, flow_run, out)


if __name__ == "__main__":
    main()

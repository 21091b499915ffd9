"""A page in a real headless Chromium, over its DevTools socket: python tests/browser.py PAGE.html PICTURE.png"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]
_START_S, _ANSWER_S = 60.0, 60.0


class Page:
    """One tab. events: all that the browser has told since the last page was opened, {"method", "params"}."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._number = socket, 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The browser's answer; what it tells meanwhile is added to the events."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(timeout=_ANSWER_S))
            if said.get("id") == self._number:
                assert "error" not in said, said
                return said["result"]
            self.events.append(said)

    def open(self, path: Path, *, width: int, height: int, scheme: str = "light") -> None:
        """Load a file on a screen of this size in CSS pixels, narrow ones as a phone's; returns when it is loaded."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", features=features)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self.ask("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self._socket.recv(timeout=_ANSWER_S)))

    def value(self, script: str) -> Any:
        """What a JavaScript expression gives."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of the screen, or of the whole page."""
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def params(self, method: str) -> list[dict[str, Any]]:
        """What was told under a name."""
        return [event["params"] for event in self.events if event["method"] == method]


@contextmanager
def browser() -> Iterator[Page]:
    """A fresh Chromium with one empty tab, ended with all that it started."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with connect(_socket_of(Path(profile), process), max_size=None, open_timeout=_ANSWER_S) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _socket_of(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the first tab: the browser writes its port into its profile, and lists its tabs there."""
    import urllib.request

    given = profile / "DevToolsActivePort"
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        if given.is_file() and (lines := given.read_text().splitlines()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=_ANSWER_S) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise RuntimeError(f"chromium did not start (exit status {process.poll()})")


def main(page: str, picture: str) -> None:
    with browser() as opened:
        opened.open(Path(page), width=1000, height=1150)
        opened.picture(Path(picture))


if __name__ == "__main__":
    main(*sys.argv[1:])

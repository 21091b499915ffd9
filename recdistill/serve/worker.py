"""One process of the server: python -m recdistill.serve.worker, settings on standard input, a socket inherited."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec
import uvicorn
import uvloop

from recdistill.serve import metrics
from recdistill.serve.app import App
from recdistill.serve.live import Live
from recdistill.serve.orphan import end_with_parent
from recdistill.serve.protocol import Protocol
from recdistill.serve.settings import Settings
from recdistill.serve.store import CURRENT

Stamp = tuple[int, int] | None
_LOOK_S = 0.2
_SWITCH_S = 0.0005  # how long a thread that loads a model may keep the one that answers waiting


async def follow(live: Live, seen: Stamp) -> None:
    """Load what the state folder says whenever it says something new, in a thread of its own; hand on the metrics."""
    while True:
        stamp = _stamp(live)
        if stamp != seen:
            await asyncio.to_thread(live.refresh)
            seen = stamp
        metrics.flush()
        await asyncio.sleep(_LOOK_S)


def _stamp(live: Live) -> Stamp:
    try:
        found = (Path(live.settings.state) / CURRENT).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


async def serve(settings: Settings) -> None:
    """Answer requests until SIGTERM; then finish those that were begun."""
    live = Live(settings)
    seen = _stamp(live)
    live.refresh()  # before any connection is taken: meanwhile other processes take them
    app = App(live, settings)
    config = uvicorn.Config(
        app,
        http=Protocol,
        lifespan="off",
        interface="asgi3",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=settings.drain_s,
    )
    following = asyncio.create_task(follow(live, seen))
    try:
        await uvicorn.Server(config).serve([socket.socket(fileno=settings.socket)])
    finally:
        following.cancel()
        app.close()
        metrics.flush()


def main() -> None:
    """Read the settings and serve."""
    settings = msgspec.json.decode(sys.stdin.buffer.read(), type=Settings)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {os.getpid()} %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    sys.setswitchinterval(_SWITCH_S)
    end_with_parent()
    gc.freeze()  # what was imported is for ever, and a collection that looked at all of it would stop the answers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again once it is done: then close the log
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(settings))


if __name__ == "__main__":
    main()

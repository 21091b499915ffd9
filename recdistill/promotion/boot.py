"""The candidate in a server of its own: booted in a child process, asked its golden requests over a socket, ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from recdistill.problems import BadInput
from recdistill.serve.client import Client, Refused
from recdistill.serve.settings import Settings
from recdistill.serve.store import Current, pointer, write_current
from recdistill.ship.golden import compare_golden, read_golden

_AT_ONCE = 64


def boot(folder: Path, deadline_s: float = 60.0) -> dict[str, Any]:
    """{"answered": how many golden requests the bundle answers rightly} or {"error": why it may not be served}."""
    try:
        requests, wanted = read_golden(folder)
        with tempfile.TemporaryDirectory() as scratch, _served(folder, Path(scratch), deadline_s) as client:
            found = [_ask(client, requests.slice(place, _AT_ONCE)) for place in range(0, len(wanted), _AT_ONCE)]
        compare_golden(np.concatenate(found), wanted, folder.name)
    except BadInput as error:
        return {"error": error.problems[0]}
    except (Refused, OSError) as error:
        return {"error": f"{folder.name}: the server says {error}"}
    return {"answered": len(wanted)}


@contextmanager
def _served(folder: Path, scratch: Path, deadline_s: float) -> Iterator[Client]:
    """A worker of the server with this bundle, as `recdistill serve` starts it. OSError where it does not come up."""
    write_current(scratch, Current(champion=pointer(folder)))
    said = scratch / "stderr"
    with socket.create_server(("127.0.0.1", 0)) as listening, said.open("wb") as log:
        settings = Settings(name="candidate", state=str(scratch), socket=listening.fileno())
        port = listening.getsockname()[1]
        listening.set_inheritable(True)
        process = subprocess.Popen(
            [sys.executable, "-m", "recdistill.serve.worker"],
            stdin=subprocess.PIPE,
            stderr=log,
            pass_fds=[listening.fileno()],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    client = Client(f"http://127.0.0.1:{port}", timeout_s=deadline_s)
    try:
        with process.stdin as pipe:  # type: ignore[union-attr]
            pipe.write(msgspec.json.encode(settings))
        if not client.ready():
            lines = said.read_text(errors="replace").splitlines()
            raise OSError(next((line for line in reversed(lines) if "not served" in line), "that no model is ready"))
        yield client
    finally:
        client.close()
        process.kill()
        process.wait()


def _ask(client: Client, requests: pa.Table) -> np.typing.NDArray[np.float32]:
    columns = {name: _as_json(requests.column(name)) for name in requests.schema.names}
    return client.score({}, candidates=columns).scores


def _as_json(values: pa.ChunkedArray) -> list[Any]:
    return (values.cast(pa.int64()) if pt.is_timestamp(values.type) else values).to_pylist()

"""What tests of serving share: bundles of random weights, requests, and a real server on a free port."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from recdistill.data.encoder import Encoder
from recdistill.files import MANIFEST, contents, manifest, write_json
from recdistill.models.student import StudentModel
from recdistill.ship.write_bundle import write_bundle

TYPES = {
    "item_id": pa.int64(),
    "country": pa.string(),
    "categories": pa.list_(pa.string()),
    "price": pa.float64(),
    "history.item_id": pa.list_(pa.int64()),
    "history.clicked": pa.list_(pa.int8()),
    "user_id": pa.int64(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
ITEM = ["item_id", "categories", "price"]


def make_bundle(prepared, folder, seed=0, student=None, golden=64, scale=1.0):
    """A student of random weights, with golden requests of random rows."""
    encoder = Encoder.open(prepared / "encoder")
    torch.manual_seed(seed)
    student = student or StudentModel(encoder.layout, width=4, attention=4, hidden=[16, 8])
    with torch.no_grad():
        for weight in student.parameters():
            weight *= scale
    schema = pa.schema([(name, TYPES[name]) for name in encoder.needed])
    rows = pa.Table.from_pylist(random_rows(encoder.needed, golden, seed=seed + 1), schema=schema)
    write_bundle(student.eval(), prepared / "encoder", encoder, schema, folder, golden=rows if golden else None)
    return folder


def random_rows(names, num_rows, seed=0):
    """Rows of raw values: some unknown, some null."""
    generator = np.random.default_rng(seed)

    def value(name):
        if name.startswith("history."):
            high = 130 if name == "history.item_id" else 2
            return generator.integers(0, high, generator.integers(0, 9)).tolist()
        made = {
            "item_id": lambda: int(generator.integers(-20, 130)),
            "user_id": lambda: int(generator.integers(0, 10**12)),
            "country": lambda: str(generator.choice(["de", "fr", "us", "zz"])),
            "categories": lambda: generator.choice(
                ["books", "films", "music", "zz"], generator.integers(0, 4)
            ).tolist(),
            "price": lambda: float(generator.exponential(20)),
            "timestamp": lambda: int(1_700_000_000_000_000 + generator.integers(0, 10**13)),
        }[name]()
        nullable = name not in ("item_id", "timestamp")
        return None if nullable and generator.random() < 0.1 else made

    rows = [{name: value(name) for name in names} for _ in range(num_rows)]
    for row in rows:
        if "history.clicked" in row:
            row["history.clicked"] = generator.integers(0, 2, len(row["history.item_id"] or [])).tolist()
            if row["history.item_id"] is None:
                row["history.item_id"] = []
    return rows


def columns(rows, names):
    return {name: [row[name] for row in rows] for name in names}


def reseal(folder, **about):
    """Make a changed bundle's manifest true again, as somebody with write access would."""
    write_json(folder / MANIFEST, {**manifest(folder), **about, "files": contents(folder)})


@contextmanager
def server(*arguments, ready=True, environment=None, stderr=None):
    """A `recdistill serve` of its own: (address, process). It is ended as by SIGTERM, and must then end with 0."""
    command = [sys.executable, "-m", "recdistill", "serve", *map(str, arguments), "--port", "0"]
    given = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=given) as process:
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http://"), process.poll()
            if ready:
                wait(lambda: get(address, "/health/ready")[0] == 200)
            yield address, process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def wait(done, seconds=60.0):
    """Until `done()` is true; it may fail to connect meanwhile."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if done():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def call(address, path, body=None, headers=None, timeout=10):
    """(status, headers, bytes) of one request; a body that is not bytes goes as JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def get(address, path):
    status, _, text = call(address, path)
    return status, text


def post(address, body, path="/score", **headers):
    """(status, JSON) of one request."""
    status, _, text = call(address, path, body, headers)
    return status, json.loads(text)


def metric(address, start):
    """The sum of the samples whose line starts so."""
    lines = get(address, "/metrics")[1].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def children(process):
    """The processes of a server: pid -> module."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid:
                found[int(path.name)] = (path / "cmdline").read_bytes().split(b"\0")[2].decode()
        except (OSError, IndexError):
            continue
    return found


def workers(process):
    return [pid for pid, module in children(process).items() if module == "recdistill.serve.worker"]


def raw(address, data, timeout=10.0):
    """What the server says to bytes as they are, until it closes or falls silent."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(data)
        connection.settimeout(timeout)
        try:
            return connection.recv(1 << 16)
        except TimeoutError:
            return b""

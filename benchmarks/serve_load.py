"""Load on a server from this process: closed loop and open loop, over keep-alive connections, answers only counted."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvloop


@dataclass(slots=True)
class Seen:
    """ok_ms: of answers 200, from the moment they were to be sent; refused_ms: of 503; at: when the former came."""

    ok_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0

    def quantile(self, share: float) -> float:
        """Of ok_ms."""
        return float(np.quantile(self.ok_ms, share))


class Connection(asyncio.Protocol):
    """One request at a time; what `done` is given: this connection and the status."""

    def __init__(self, done) -> None:  # type: ignore[no-untyped-def]
        self.done, self.buffer, self.wanted = done, b"", 0
        self.intended = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        self.transport = transport

    def send(self, request: bytes, intended: float) -> None:
        """Ask; the time counts from `intended`."""
        self.intended = intended
        self.transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Whole answers are told by their length."""
        self.buffer = self.buffer + data if self.buffer else data
        if not self.wanted:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            at = head.index(b"content-length:") + 15
            self.wanted = end + 4 + int(head[at:].split(b"\r\n", 1)[0])
        if len(self.buffer) >= self.wanted:
            status = int(self.buffer[9:12])
            self.buffer, self.wanted = b"", 0
            self.done(self, status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Only counted."""
        self.done(self, 0)


def http_request(path: str, body: bytes) -> bytes:
    """The bytes of a request."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def closed(address: str, requests: Sequence[bytes], num: int, seconds: float) -> Seen:
    """`num` connections that each ask again as soon as they are answered."""
    return uvloop.run(_closed(address, requests, num, seconds))


async def _closed(address: str, requests: Sequence[bytes], num: int, seconds: float) -> Seen:
    seen, until, sent = Seen(), time.perf_counter() + seconds, 0

    def done(connection: Connection, status: int) -> None:
        nonlocal sent
        now = time.perf_counter()
        _note(seen, status, (now - connection.intended) * 1e3, now)
        if now < until and status:
            sent += 1
            connection.send(requests[sent % len(requests)], now)

    connections = await _connect(address, num, done)
    began = time.perf_counter()
    for place, connection in enumerate(connections):
        connection.send(requests[place % len(requests)], time.perf_counter())
    await asyncio.sleep(until - time.perf_counter() + 0.2)
    seen.seconds = max(seen.at, default=began) - began
    for connection in connections:
        connection.transport.abort()  # type: ignore[attr-defined]
    return seen


def opened(address: str, requests: Sequence[bytes], rate: float, seconds: float, num: int = 256) -> Seen:
    """Poisson arrivals at `rate` a second, whatever the server does: at most `num` at once, others wait their turn."""
    return uvloop.run(_opened(address, requests, rate, seconds, num))


async def _opened(address: str, requests: Sequence[bytes], rate: float, seconds: float, num: int) -> Seen:
    seen = Seen()
    waiting: deque[float] = deque()
    free: deque[Connection] = deque()
    sent = 0

    def ask(connection: Connection, intended: float) -> None:
        nonlocal sent
        sent += 1
        connection.send(requests[sent % len(requests)], intended)

    def done(connection: Connection, status: int) -> None:
        now = time.perf_counter()
        _note(seen, status, (now - connection.intended) * 1e3, now)
        if status and waiting:
            ask(connection, waiting.popleft())
        elif status:
            free.append(connection)

    free.extend(await _connect(address, num, done))
    everyone = list(free)
    gaps = np.random.default_rng(0).exponential(1 / rate, int(rate * seconds))
    began = time.perf_counter()
    for intended in (began + np.cumsum(gaps)).tolist():
        ahead = intended - time.perf_counter()
        if ahead > 0.0002:
            await asyncio.sleep(ahead)
        if free:
            ask(free.popleft(), intended)
        else:
            waiting.append(intended)
    await asyncio.sleep(0.5)
    seen.seconds = time.perf_counter() - began
    for connection in everyone:
        connection.transport.abort()  # type: ignore[attr-defined]
    return seen


async def _connect(address: str, num: int, done) -> list[Connection]:  # type: ignore[no-untyped-def]
    host, _, port = address.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Connection(done), host, int(port)) for _ in range(num)]
    return [protocol for _, protocol in made]


def _note(seen: Seen, status: int, ms: float, now: float) -> None:
    if status == 200:
        seen.ok_ms.append(ms)
        seen.at.append(now)
    elif status == 503:
        seen.refused_ms.append(ms)
    elif status:
        seen.failed += 1


def cpu_s(pid: int) -> float:
    """Seconds of a core that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

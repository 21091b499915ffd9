"""HTTP connections as uvicorn speaks them, but an answer's head and body leave in one system call, not in two."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_CONTINUE = b"HTTP/1.1 100 "  # what a caller waits for before the rest of its request


class Joined:
    """A transport that holds what is written until the answer is complete or the connection is closed."""

    __slots__ = ("held", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """Hold it, but for the word to go on."""
        self.held.append(data)
        if data.startswith(_CONTINUE):
            self.flush()

    def flush(self) -> None:
        """Send what is held: uvloop calls the system at each write, and each wakes the caller."""
        if self.held:
            self.transport.write(b"".join(self.held))
            self.held.clear()

    def close(self) -> None:
        """Send what is held, then close."""
        self.flush()
        self.transport.close()


class Protocol(HttpToolsProtocol):
    """For an application that answers with one body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Write through Joined."""
        super().connection_made(cast(asyncio.Transport, Joined(transport)))

    def on_response_complete(self) -> None:
        """Also for an answer without a body, as to HEAD."""
        cast(Joined, self.transport).flush()
        super().on_response_complete()

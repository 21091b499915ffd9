"""How a server is run, as the command line says it and as its processes hand it on."""

from __future__ import annotations

import msgspec

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """state: a folder for what a server remembers. socket: the number of the listening socket, which is inherited.
    processes: how many of them serve. loaded: a folder where each notes that it has a model; None for one alone.

    token: what callers have to show; None only on the loopback interface. queue: requests that may wait in a process,
    beyond which callers are told to come back. body_bytes, candidates: the most that a request may hold. body_s: how
    long a body may take to arrive. shadow_share: of requests that the challenger scores too. log: a folder for scored
    requests, None for no log; log_columns: of the user, kept there; log_bytes: the most that a process keeps.
    """

    name: str
    state: str
    socket: int = -1
    processes: int = 1
    loaded: str | None = None
    token: str | None = None
    items: str | None = None
    item_key: str | None = None
    queue: int = 32
    body_bytes: int = 1 << 20
    candidates: int = 2000
    body_s: float = 5.0
    drain_s: int = 10
    shadow_share: float = 0.0
    log: str | None = None
    log_columns: tuple[str, ...] = ()
    log_bytes: int = 1 << 30

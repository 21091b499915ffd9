"""Curves on disk until the tracking server has them: appended line by line, read in order, acknowledged by number."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "curves.jsonl"
Entry = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """The spool of a run's folder. One process appends, which holds the folder's lock; any may deliver, one at a time.

    Entries: {"begin": a Session's fields}, {"child", "at", "step", "metrics"} and {"end": a status}, in this order,
    over and over. What a kill -9 cut in two at the end is not an entry.
    """

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / NAME

    @property
    def _sent(self) -> Path:
        return self.folder / f"{NAME}.sent"

    def append(self, entry: Mapping[str, Any]) -> None:
        """On disk when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            torn = file.tell() > 0 and _last_byte(file.fileno(), file.tell()) != b"\n"
            file.write((b"\n" if torn else b"") + json.dumps(entry, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> list[Entry | None]:
        """Every line in order; None for one that was cut."""
        if not self.path.is_file():
            return []
        lines = self.path.read_bytes().split(b"\n")[:-1]  # after the last newline: nothing, or a line not yet whole
        return [_parsed(line) for line in lines]

    @contextmanager
    def delivery(self) -> Iterator[int]:
        """How many entries the server has, while no other process or thread delivers."""
        with self._sent.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield int(file.read() or 0)

    def acknowledge(self, count: int) -> None:
        """The server has so many entries. Call it only within `delivery`."""
        descriptor = os.open(self._sent, os.O_WRONLY)  # in place: the lock is on this very file
        try:
            os.pwrite(descriptor, f"{count:020d}".encode(), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Forget everything, where the server has all of it. Call it only as the process that appends."""
        if not self.path.is_file():
            return
        with self.delivery() as sent:
            if sent >= len(self.entries()):
                self.path.unlink()
                self.acknowledge(0)


def _last_byte(descriptor: int, size: int) -> bytes:
    return os.pread(descriptor, 1, size - 1)


def _parsed(line: bytes) -> Entry | None:
    try:
        return dict(json.loads(line))
    except ValueError:
        return None

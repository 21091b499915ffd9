"""The log of scored requests, for those who ask for it: Parquet parts written by a thread beside the one that answers.

What delayed labels are joined with later (recdistill.monitor). A request costs the answering thread one append; rows
become files a part at a time. Memory and disk are bounded: what does not fit is dropped and counted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recdistill.serve.metrics import LOG_DROPPED, LOGGED

logger = logging.getLogger("recdistill.serve")
_EVERY_S = 30.0  # how much of the log a kill may lose
_PART = 500_000  # candidates; a part is written earlier where so many wait
_MOST_WAITING = 2_000_000  # candidates, beyond which requests are dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A request that was answered. at: UTC microseconds. keys: of the candidates; None where none has one."""

    at: int
    request: str
    model: str
    version: str
    user: Mapping[str, Any]
    keys: Sequence[Any] | None
    scores: NDArray[np.float32]


class ScoredLog:
    """folder: where the parts go. columns: of the user, kept as texts. most_bytes: of this process's parts together.

    Parts have time, request, model (the digest's first 12 places), version, the columns, and the lists items (keys as
    texts, or places where the requests have no key) and scores. A part appears whole or not at all.
    """

    def __init__(self, folder: Path, columns: Sequence[str], most_bytes: int) -> None:
        self.folder, self.columns, self.most_bytes = folder, list(columns), most_bytes
        self.waiting: deque[Entry] = deque()
        self.offered, self.taken = 0, 0  # candidates; each is changed by one thread alone
        self.written: list[Path] = []
        self.numbered = 0
        self.prefix = f"{os.getpid()}-{time.time_ns():x}"
        folder.mkdir(parents=True, exist_ok=True)
        self._wake, self._stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def new_request(self) -> str:
        """An id for a request that came without one."""
        self.numbered += 1
        return f"{self.prefix}-{self.numbered}"

    def offer(self, entry: Entry) -> None:
        """Keep a request to be written; dropped where too many wait."""
        num_waiting = self.offered - self.taken
        if num_waiting >= _MOST_WAITING:
            LOG_DROPPED.inc()
            return
        self.offered += len(entry.scores)
        self.waiting.append(entry)
        if num_waiting >= _PART:
            self._wake.set()

    def close(self) -> None:
        """Write what waits."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(_EVERY_S)
            self._wake.clear()
            entries = [self.waiting.popleft() for _ in range(len(self.waiting))]
            self.taken += sum(len(entry.scores) for entry in entries)
            try:
                self._write(entries)
            except (OSError, pa.ArrowException) as error:
                LOG_DROPPED.inc(len(entries))
                logger.error("%d scored requests are not logged: %s", len(entries), str(error).splitlines()[0][:200])

    def _write(self, entries: list[Entry]) -> None:
        if not entries:
            return
        final = self.folder / f"part-{entries[0].at}-{self.prefix}.parquet"
        temporary = final.with_name(f".unfinished-{final.name}")
        try:
            pq.write_table(self._table(entries), temporary, compression="zstd", write_page_checksum=True)
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
        LOGGED.inc(len(entries))
        self.written.append(final)
        self._forget()

    def _table(self, entries: list[Entry]) -> pa.Table:
        sizes = np.cumsum([0, *(len(entry.scores) for entry in entries)]).astype(np.int32)
        keys = [key for e in entries for key in (range(len(e.scores)) if e.keys is None else e.keys)]
        columns: dict[str, pa.Array] = {
            "time": pa.array([entry.at for entry in entries], pa.timestamp("us", tz="UTC")),
            "request": pa.array([entry.request for entry in entries]),
            "model": pa.array([entry.model for entry in entries]),
            "version": pa.array([entry.version for entry in entries]),
        }
        for name in self.columns:
            columns[name] = pa.array([_text(entry.user.get(name)) for entry in entries], pa.string())
        scores = np.concatenate([entry.scores for entry in entries])
        columns["items"] = pa.ListArray.from_arrays(sizes, _texts(keys))
        columns["scores"] = pa.ListArray.from_arrays(sizes, pa.array(scores, pa.float32()))
        return pa.table(columns)

    def _forget(self) -> None:
        """Remove this process's oldest parts while all of them are too large together."""
        sizes = [path.stat().st_size if path.exists() else 0 for path in self.written]
        while len(sizes) > 1 and sum(sizes) > self.most_bytes:
            self.written.pop(0).unlink(missing_ok=True)
            sizes.pop(0)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _texts(keys: list[Any]) -> pa.Array:
    try:
        return pa.array(keys).cast(pa.string())
    except pa.ArrowException:  # whole numbers and texts among each other
        return pa.array([_text(key) for key in keys], pa.string())

"""A small client: one connection kept open, answers as numpy, errors as exceptions; the standard library alone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray


class Refused(Exception):
    """An answer other than a score. status: of HTTP; problems: its lines; retry_after_s: None where it says none."""

    def __init__(self, status: int, problems: list[str], retry_after_s: float | None) -> None:
        super().__init__(f"{status}: " + "; ".join(problems))
        self.status, self.problems, self.retry_after_s = status, problems, retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """model: the start of the bundle's digest. order: places among the candidates; None where all are scored."""

    model: str
    scores: NDArray[np.float32]
    order: NDArray[np.int64] | None


class Client:
    """Of one server. Not for two threads at once: give each its own."""

    def __init__(self, address: str, token: str | None = None, timeout_s: float = 5.0) -> None:
        """address: as the server prints it, http://127.0.0.1:8080."""
        parts = urlsplit(address)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
        self.headers = {"content-type": "application/json"}
        if token is not None:
            self.headers["authorization"] = f"Bearer {token}"

    def score(
        self,
        user: Mapping[str, Any],
        items: Sequence[int | str] | None = None,
        candidates: Mapping[str, Sequence[Any]] | None = None,
        top: int | None = None,
    ) -> Scores:
        """Logits in the order of the candidates, or of the `top` best. Raises Refused, or OSError for no server."""
        request = {"user": user, "items": items, "candidates": candidates, "top": top}
        body = json.dumps({name: value for name, value in request.items() if value is not None}, allow_nan=False)
        found = self._asked("POST", "/score", body)
        order = np.array(found["order"], dtype=np.int64) if "order" in found else None
        return Scores(model=found["model"], scores=np.array(found["scores"], dtype=np.float32), order=order)

    def ready(self) -> bool:
        """Whether a model is in service. Raises OSError for no server."""
        try:
            self._asked("GET", "/health/ready", None)
        except Refused:
            return False
        return True

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self.connection.close()

    def _asked(self, method: str, path: str, body: str | None) -> Any:
        for last in (False, True):
            try:
                self.connection.request(method, path, body, self.headers)
                answer = self.connection.getresponse()
                text = answer.read()
                break
            except (ConnectionError, http.client.BadStatusLine):
                self.connection.close()  # the server closed an idle connection, or a process of it ended: once more
                if last:
                    raise
            except OSError:
                self.connection.close()
                raise
        if answer.status != 200:
            after = answer.headers.get("retry-after")
            problems = json.loads(text).get("error", []) if text.startswith(b"{") else [text.decode(errors="replace")]
            raise Refused(answer.status, problems, None if after is None else float(after))
        return json.loads(text)

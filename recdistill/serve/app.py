"""The server's answers: an ASGI application without a framework, since the framework would cost more than the model."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from recdistill import __version__
from recdistill.problems import BadInput
from recdistill.serve import metrics, v2, wire
from recdistill.serve.live import Live, Model
from recdistill.serve.openapi import openapi
from recdistill.serve.queue import Full, Queue
from recdistill.serve.scored_log import Entry, ScoredLog
from recdistill.serve.scorer import NotFinite, Scorer
from recdistill.serve.settings import Settings
from recdistill.serve.shadow import Shadow
from recdistill.serve.wire import Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Coroutine[Any, Any, Message]]
Send = Callable[[Message], Awaitable[None]]
Body = TypeVar("Body", bytes, bytearray)
Answer = tuple[bytes, bytes]  # type, body
JSON, TEXT = b"application/json", b"text/plain; version=0.0.4; charset=utf-8"
_OPEN = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")  # need no token
_ID, _LONGEST_ID = "recdistill.request", 128
logger = logging.getLogger("recdistill.serve")


class App:
    """One process's server. live: the model; settings: the limits."""

    def __init__(self, live: Live, settings: Settings) -> None:
        self.live, self.settings = live, settings
        self.token = None if settings.token is None else f"Bearer {settings.token}".encode()
        self.shadow = Shadow(live, settings.shadow_share)
        self.queue = Queue(settings.queue, self.shadow.work)
        self.log: ScoredLog | None = None
        if settings.log is not None:
            self.log = ScoredLog(Path(settings.log), settings.log_columns, settings.log_bytes)
        self.of_model = f"/v2/models/{settings.name}"
        self.counted: dict[tuple[str, int], Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        path = scope["path"]
        form = "v2" if path.startswith("/v2/models/") else "json" if path == "/score" else "other"
        status, headers = 200, {}
        if self.log is not None and form != "other":
            headers["x-request-id"] = scope[_ID] = _request_id(scope) or self.log.new_request()
        try:
            kind, body = await self._answer(scope, path, receive)
        except Refusal as refusal:
            status, headers = refusal.status, {**headers, **refusal.headers}
            kind, body = JSON, orjson.dumps({"error": refusal.lines})
        except Exception:  # our own fault: the caller learns no more than that
            logger.exception("a request failed")
            status, kind, body = 500, JSON, b'{"error":["internal error"]}'
        if form != "other":
            metrics.LATENCY.observe(time.perf_counter() - began)
        self._count(form, status)
        await _send(send, status, kind, body, headers)

    def _count(self, form: str, status: int) -> None:
        counter = self.counted.get((form, status))
        if counter is None:
            counter = self.counted[form, status] = metrics.REQUESTS.labels(form, str(status))
        counter.inc()

    async def _answer(self, scope: Scope, path: str, receive: Receive) -> Answer:
        if self.token is not None and path not in _OPEN:
            self._check_token(scope)
        if scope["method"] == "POST":
            if path == "/score":
                return JSON, await self._score(await self._admitted(scope, receive), scope.get(_ID))
            if path in (f"{self.of_model}/infer", f"{self.of_model}/versions/{self._version()}/infer"):
                return JSON, await self._infer(await self._admitted(scope, receive), scope.get(_ID))
        elif scope["method"] in ("GET", "HEAD"):
            found = self._page(path)
            if found is not None:
                return found
        raise Refusal(404, [f"nothing here for {scope['method'] if scope['method'] in ('GET', 'POST') else 'this'}"])

    def _version(self) -> str:
        return "" if self.live.model is None else v2.version(self.live.model)

    def _page(self, path: str) -> Answer | None:
        if path in ("/health/live", "/v2/health/live"):
            return JSON, b'{"live":true}'
        if path in ("/health/ready", "/v2/health/ready", f"{self.of_model}/ready"):
            return JSON, orjson.dumps({"ready": True, "model": self._ready().scorer.digest})
        if path == "/metrics":
            return TEXT, metrics.exposition()
        if path == "/openapi.json":
            return JSON, orjson.dumps(openapi(self._model().scorer, self.settings))
        if path == "/about":
            return JSON, orjson.dumps({**self._model().scorer.about, "refused": sorted(self.live.refused)})
        if path == "/v2":
            return JSON, orjson.dumps({"name": "recdistill", "version": __version__, "extensions": []})
        if path in (self.of_model, f"{self.of_model}/versions/{self._version()}"):
            return JSON, orjson.dumps(v2.metadata(self._model(), self.settings.name))
        return None

    def _model(self) -> Model:
        if self.live.model is None:
            raise Refusal(503, ["no model yet"], **{"retry-after": "1"})
        return self.live.model

    def _ready(self) -> Model:
        """The model, once every process of the server has one: a caller does not choose which of them answers."""
        if self.live.num_loaded < self.settings.processes:
            raise Refusal(503, ["no model yet"], **{"retry-after": "1"})
        return self._model()

    def _check_token(self, scope: Scope) -> None:
        assert self.token is not None
        shown = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(shown, self.token):
            raise Refusal(401, ["wanted a token"], **{"www-authenticate": "Bearer"})

    async def _admitted(self, scope: Scope, receive: Receive) -> bytes | bytearray:
        """The body. Where the queue is full it is not looked at: turning away has to be cheaper than scoring."""
        if self.queue.full:
            raise _crowded()
        return await self._body(scope, receive)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | bytearray:
        """Raises Refusal while reading: for a body that is compressed, too long or too slow."""
        most = self.settings.body_bytes
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value[:20]) > most):
                raise Refusal(413, [f"body: wanted at most {most} bytes"], connection="close")
            if name == b"content-encoding" and value.lower() != b"identity":
                raise Refusal(415, ["body: wanted no content-encoding"], connection="close")
        message = _arrived(receive)
        if message is not None and not message.get("more_body", False):
            return _within(message.get("body", b""), most)
        try:
            async with asyncio.timeout(self.settings.body_s):
                return await _read(receive, most, message)
        except TimeoutError:
            wanted = f"body: wanted all of it within {self.settings.body_s:g} s"
            raise Refusal(408, [wanted], connection="close") from None

    async def _score(self, body: bytes | bytearray, request_id: str | None) -> bytes:
        model = self._model()  # of the whole request, whatever is swapped in meanwhile
        request = wire.read(body, self.settings.candidates)
        scores = await self._scored(model, request.user, wire.keys(request.items), request.candidates, request_id)
        if request.top is None:
            return wire.written(model.prefix, scores)
        return wire.written_top(model.prefix, scores, np.argsort(-scores, kind="stable")[: request.top])

    async def _infer(self, body: bytes | bytearray, of_header: str | None) -> bytes:
        model = self._model()
        request_id, user, candidates = v2.read(body, self.settings.candidates)
        scores = await self._scored(model, user, None, candidates, request_id or of_header)
        return v2.written(model, self.settings.name, request_id, scores)

    async def _scored(
        self, model: Model, user: Any, items: Any, candidates: Any, request_id: str | None
    ) -> NDArray[np.float32]:
        def ask(scorer: Scorer) -> NDArray[np.float32]:
            return scorer.score(user, items, candidates)

        try:
            scores: NDArray[np.float32] = await self.queue.run(partial(_timed, ask, model.scorer))
        except Full:
            raise _crowded() from None
        except BadInput as error:
            raise Refusal(400, error.problems) from None
        except NotFinite:
            metrics.NOT_FINITE.inc()
            raise Refusal(500, ["the model has no number for a candidate"]) from None
        metrics.CANDIDATES.observe(len(scores))
        self.shadow.offer(ask, scores)
        if self.log is not None and request_id is not None:
            self.log.offer(self._entry(model, user, items, candidates, request_id, scores))
        return scores

    def _entry(
        self, model: Model, user: Any, items: Any, candidates: Any, request_id: str, scores: NDArray[np.float32]
    ) -> Entry:
        known = model.scorer.forms.items
        key = self.settings.item_key if known is None else known.key
        return Entry(
            at=time.time_ns() // 1000,
            request=request_id,
            model=model.scorer.digest[:12],
            version=model.pointer.version,
            user=user,
            keys=items if items is not None else (candidates or {}).get(key),
            scores=scores,
        )

    def close(self) -> None:
        """Write what the log still holds."""
        if self.log is not None:
            self.log.close()


def _crowded() -> Refusal:
    return Refusal(503, ["too many requests wait"], **{"retry-after": "1"})


def _request_id(scope: Scope) -> str:
    """The caller's own, empty where there is none."""
    found: bytes = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return found[:_LONGEST_ID].decode("latin-1")


def _timed(ask: Callable[[Scorer], NDArray[np.float32]], scorer: Scorer) -> NDArray[np.float32]:
    began = time.perf_counter()
    found = ask(scorer)
    metrics.SCORING.observe(time.perf_counter() - began)
    return found


def _arrived(receive: Receive) -> Message | None:
    """What has arrived, None where that were to be waited for: most bodies come with their heads, and need no timer."""
    asked = receive()
    try:
        asked.send(None)
    except StopIteration as done:
        return cast(Message, done.value)
    asked.close()
    return None


async def _read(receive: Receive, most: int, message: Message | None) -> bytearray:
    """A body whose first part may have come."""
    message = message or await receive()
    body = bytearray(message.get("body", b""))
    while message.get("more_body", False) and len(body) <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, ["body: cut short"])
        body += message.get("body", b"")
    return _within(body, most)


def _within(body: Body, most: int) -> Body:
    if len(body) > most:
        raise Refusal(413, [f"body: wanted at most {most} bytes"], connection="close")
    return body


async def _send(send: Send, status: int, kind: bytes, body: bytes, headers: dict[str, str]) -> None:
    given = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    given += [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": given})
    await send({"type": "http.response.body", "body": body})

"""The queue before the scorer: what was let in is not starved by turning others away, which costs little."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from recdistill.serve.app import App
from recdistill.serve.queue import Full, Queue
from recdistill.serve.settings import Settings


def test_jobs_get_as_long_as_the_loop_took_for_all_else():
    async def rounds() -> int:
        queue, loop, looks = Queue(20, lambda: False), asyncio.get_running_loop(), 0

        def network() -> None:
            nonlocal looks
            looks += 1
            time.sleep(0.03)
            loop.call_soon(network)

        loop.call_soon(network)
        await asyncio.gather(*[queue.run(lambda: time.sleep(0.001)) for _ in range(20)])
        return looks

    assert asyncio.run(rounds()) <= 8, "a slice of a millisecond alone takes one or two jobs at a look"


def test_what_does_not_fit_is_told_at_once_and_in_order():
    async def outcome() -> list[object]:
        queue = Queue(2, lambda: False)
        return await asyncio.gather(*[queue.run(lambda n=n: n) for n in range(4)], return_exceptions=True)

    first, second, *others = asyncio.run(outcome())
    assert (first, second) == (0, 1)
    assert [type(other) for other in others] == [Full, Full]


@pytest.mark.parametrize("path", ["/score", "/v2/models/ranker/infer"])
def test_no_body_is_read_for_which_there_is_no_place(path):
    app = App(SimpleNamespace(model=None), Settings(name="ranker", state="unused", queue=0))
    sent = []

    async def receive() -> dict:
        raise AssertionError("nobody may look at the body")

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": []}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]
    assert b"too many requests wait" in sent[1]["body"]

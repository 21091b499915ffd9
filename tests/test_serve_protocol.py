"""What an answer costs a server's connection: one write, whatever is asked; a body that is there, no timer."""

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from recdistill.serve.app import App
from recdistill.serve.live import Live
from recdistill.serve.protocol import Protocol
from recdistill.serve.settings import Settings
from recdistill.serve.wire import Refusal

BODY = b'{"live":true}'


class Wire(asyncio.Transport):
    """A caller that only listens."""

    def __init__(self):
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written, self.closed = [], False

    def write(self, data):
        assert not self.closed
        self.written.append(bytes(data))

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    def pause_reading(self):
        pass

    resume_reading = pause_reading


def settings(**more):
    return Settings(name="shop", state="nowhere", **more)


def spoken(*parts):
    """[what was written after each part of what a caller says], whether the connection is closed."""

    async def speak():
        config = uvicorn.Config(
            App(Live(settings()), settings()), lifespan="off", date_header=False, server_header=False, log_config=None
        )
        config.load()
        wire, seen = Wire(), []
        protocol = Protocol(config, ServerState(), {})
        protocol.connection_made(wire)
        for part in parts:
            protocol.data_received(part)
            for _ in range(30):
                await asyncio.sleep(0)
            seen.append(wire.written)
            wire.written = []
        closed = wire.closed
        protocol.connection_lost(None)
        return seen, closed

    return asyncio.run(speak())


def head(method="GET", path="/health/live", more=""):
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n".encode()


def test_head_and_body_of_an_answer_are_one_write():
    (first, second), closed = spoken(head(), head())
    assert len(first) == len(second) == 1
    assert first[0].startswith(b"HTTP/1.1 200")
    assert first[0].endswith(b"\r\n\r\n" + BODY)
    assert not closed


def test_an_answer_without_a_body_does_not_wait_for_one():
    (found, _), closed = spoken(head("HEAD"), head())
    assert len(found) == 1
    assert found[0].endswith(b"\r\n\r\n")
    assert not closed


def test_a_caller_that_waits_for_the_word_to_go_on_gets_it():
    more = "content-length: 2\r\nexpect: 100-continue\r\n"
    (first, second), _ = spoken(head("POST", "/score", more), b"{}")
    assert first == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    assert second[0].startswith(b"HTTP/1.1 503")  # there is no model


@pytest.mark.parametrize("said", [head(more="connection: close\r\n"), b"what?\r\n\r\n"])
def test_what_is_said_last_is_sent_before_the_connection_is_closed(said):
    (found,), closed = spoken(said)
    assert closed
    assert len(found) == 1
    assert found[0].startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))


def test_answers_to_requests_that_came_together_are_all_sent():
    (found,), _ = spoken(head() * 3)
    assert b"".join(found).count(BODY) == 3


def read(messages, body_s, most=100):
    """The body of a request whose messages come so; None: after a while."""

    async def feed(queue):
        for message in messages:
            await (asyncio.sleep(0.05) if message is None else queue.put(message))

    async def body():
        queue = asyncio.Queue()
        feeding = asyncio.create_task(feed(queue))
        await asyncio.sleep(0)
        try:
            return await App(Live(given), given)._body({"headers": []}, queue.get)
        finally:
            feeding.cancel()

    given = settings(body_s=body_s, body_bytes=most)
    return asyncio.run(body())


def part(data, more=False):
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_body_that_is_there_needs_no_timer(monkeypatch):
    monkeypatch.setattr(asyncio, "timeout", None)
    assert read([part(b"abc")], body_s=0.0) == b"abc"
    with pytest.raises(Refusal) as refused:
        read([part(b"abcd")], body_s=0.0, most=3)
    assert refused.value.status == 413


@pytest.mark.parametrize("messages", [[None, part(b"abc")], [part(b"a", more=True), None, part(b"bc")]])
def test_a_body_that_is_waited_for_is_whole_or_too_late(messages):
    assert read(messages, body_s=5.0) == b"abc"
    with pytest.raises(Refusal) as refused:
        read(messages, body_s=0.001)
    assert refused.value.status == 408

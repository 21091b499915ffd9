"""The server over a real socket: both forms, and every bad request answered with its status while others go on."""

import contextlib
import gzip
import json
import re
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from serve_world import (
    ITEM,
    call,
    children,
    columns,
    get,
    make_bundle,
    metric,
    post,
    raw,
    server,
    workers,
)
from test_serve_scorer import item_table, of_one_user

from recdistill.data.encoder import Encoder
from recdistill.serve import Scorer
from recdistill.serve.client import Client, Refused

MOST, BODY = 50, 20_000


@pytest.fixture(scope="module")
def bundle(tiny_prepared, tmp_path_factory):
    return make_bundle(tiny_prepared, tmp_path_factory.mktemp("bundle") / "student-0")


@pytest.fixture(scope="module")
def asked(bundle):
    """(user, rows) whose items the server's table knows."""
    return of_one_user(Encoder.open(bundle / "encoder").needed, MOST, seed=3)


@pytest.fixture(scope="module")
def address(bundle, asked, tmp_path_factory):
    """One server for the whole file, of one process."""
    root = tmp_path_factory.mktemp("server")
    pq.write_table(item_table(asked[1]), root / "items.parquet")
    limits = ("--candidates", MOST, "--body-bytes", BODY, "--items", root / "items.parquet")
    with server(bundle, "--workers", 1, "--state", root / "state", *limits) as (address, process):
        yield address
        assert process.poll() is None
    assert process.returncode == 0


@pytest.fixture(autouse=True)
def still_well(request):
    """Whatever a test did, the next request is answered, by the same process."""
    yield
    if "address" in request.fixturenames and "asked" in request.fixturenames:
        user, rows = request.getfixturevalue("asked")
        answer = post(request.getfixturevalue("address"), {"user": user, "candidates": columns(rows[:1], ITEM)})
        assert answer[0] == 200


def test_both_forms_answer_as_the_scorer_in_process(address, asked, bundle):
    user, rows = asked
    rows = [row for row in rows if row["categories"] and row["price"] is not None]
    rows = [{**row, "categories": (row["categories"] * 2)[:2]} for row in rows]
    assert len(rows) > 10
    assert None not in user.values()
    wanted = Scorer(bundle).score(user, candidates=columns(rows, ITEM))
    status, answer = post(address, {"user": user, "candidates": columns(rows, ITEM)})
    assert (status, len(answer["scores"])) == (200, len(rows))
    assert np.allclose(answer["scores"], wanted, rtol=0, atol=1e-6)

    def tensor(name, values, datatype):
        shape = [len(values), len(values[0])] if isinstance(values[0], list) else [len(values)]
        return {"name": name, "shape": shape, "datatype": datatype, "data": values}

    kinds = {"item_id": "INT64", "price": "FP64", "categories": "BYTES", "country": "BYTES"}
    inputs = [tensor(name, [value], kinds.get(name, "INT64")) for name, value in user.items()]
    inputs += [tensor(name, values, kinds[name]) for name, values in columns(rows, ITEM).items()]
    status, answer = post(address, {"inputs": inputs, "id": "7"}, "/v2/models/student-0/infer")
    assert status == 200, answer
    assert (answer["id"], answer["model_name"]) == ("7", "student-0")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("logit", "FP32", [len(rows)])
    assert np.allclose(output["data"], wanted, rtol=0, atol=1e-6)


def test_the_client_asks_by_items_and_for_the_best(address, asked, bundle):
    user, rows = asked
    keys = [row["item_id"] for row in rows]
    wanted = Scorer(bundle, items=item_table(rows)).score(user, items=keys)
    client = Client(address)
    assert client.ready()
    found = client.score(user, items=keys)
    assert np.allclose(found.scores, wanted, rtol=0, atol=1e-6)
    best = client.score(user, items=keys, top=5)
    assert best.order.tolist() == np.argsort(-wanted, kind="stable")[:5].tolist()
    assert np.allclose(best.scores, np.sort(wanted)[::-1][:5], rtol=0, atol=1e-6)
    with pytest.raises(Refused, match="400: column item_id") as refused:
        client.score(user, items=["x"])
    assert refused.value.status == 400
    assert client.score(user, items=keys).model == found.model
    client.close()


def test_the_pages_say_what_there_is(address):
    assert get(address, "/health/live")[0] == get(address, "/v2/health/live")[0] == 200
    assert json.loads(get(address, "/health/ready")[1])["ready"] is True
    assert json.loads(get(address, "/v2")[1])["name"] == "recdistill"
    about = json.loads(get(address, "/v2/models/student-0")[1])
    assert {"name": "item_id", "datatype": "INT64", "shape": [-1]} in about["inputs"]
    assert {"name": "history.item_id", "datatype": "INT64", "shape": [-1, -1]} in about["inputs"]
    page = json.loads(get(address, "/openapi.json")[1])
    assert page["openapi"].startswith("3.1")
    assert "history.item_id" in json.dumps(page["paths"]["/score"])
    assert json.loads(get(address, "/about")[1])["item_cache_bytes"] > 0
    before = metric(address, 'recdistill_requests_total{form="json",status="200"}')
    assert before > 0
    assert get(address, "/nothing")[0] == post(address, {}, "/v2/models/other/infer")[0] == 404


def bad_ids():
    yield from ("1.0", "1.5", '"1"', "true", "null", "[1]", "{}", str(2**63), str(2**70), str(-(2**63) - 1))
    yield from ("NaN", "Infinity", "-Infinity", "1e999", "1e2")


@pytest.mark.parametrize("value", list(bad_ids()))
@pytest.mark.parametrize("place", ["items", "candidates", "history"])
def test_what_is_no_id_is_refused_and_not_echoed(address, asked, value, place):
    user, rows = asked
    body = json.dumps({"user": user, "candidates": columns(rows[:2], ITEM)})
    if place == "items":
        body = json.dumps({"user": user, "items": []}).replace('"items": []', f'"items": [{value}, 1]')
    elif place == "candidates":
        body, num = re.subn(r'("item_id": \[)-?\d+', rf"\g<1>{value}", body)
        assert num == 1
    else:
        body = json.dumps({"user": {**user, "history.item_id": [-77]}, "items": [1]}).replace("-77", value)
        if value == "null":
            body = body.replace("[null]", "[null, 1.5]")  # an event without an item is an absent one, and allowed
    status, answer = post(address, body.encode())
    assert status == 400, answer
    assert "77777" not in str(answer)
    assert set(answer) == {"error"}


def test_strange_but_whole_ids_are_unknown_ones(address, asked):
    user, _ = asked
    found = post(address, {"user": user, "items": [10**9, -1000, -3000, -(2**63), 2**63 - 1, 2**31]})
    assert found[0] == 200
    assert len(set(found[1]["scores"])) == 1


def test_the_number_of_candidates(address, asked):
    user, rows = asked
    keys = [row["item_id"] for row in rows]
    assert post(address, {"user": user, "items": []}) == (200, {**post(address, {"user": user, "items": []})[1]})
    assert post(address, {"user": user, "items": []})[1]["scores"] == []
    assert len(post(address, {"user": user, "items": keys[:1]})[1]["scores"]) == 1
    assert len(post(address, {"user": user, "items": keys})[1]["scores"]) == MOST
    assert post(address, {"user": user, "items": [*keys, 1]})[0] == 413
    assert post(address, {"user": user, "candidates": {"item_id": [*keys, 1]}})[0] == 413
    twice = post(address, {"user": user, "items": [keys[0], keys[1], keys[0]]})[1]["scores"]
    assert twice[0] == twice[2]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"\xff\xfe",
        b'{"user":{}}',
        b'{"user":[],"items":[1]}',
        b'{"items":[1]}',
        b'{"user":{},"items":[1],"more":1}',
        b'{"user":{},"items":[1],"top":0}',
        b'{"user":{},"items":[1],"top":"1"}',
        b'{"user":{},"candidates":{"item_id":1}}',
        b'{"user":' + b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"}",
        b"[" * 10_000,
        b'{"user":{"country":' + b"[" * 5000 + b"]" * 5000 + b'},"items":[1]}',
        b'{"user":{"country":' + b"9" * 5000 + b'},"items":[1]}',
    ],
)
def test_what_is_no_request_gets_400(address, asked, body):
    assert post(address, body)[0] == 400
    assert post(address, body, "/v2/models/student-0/infer")[0] == 400


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [3]},
        {"shape": [-1]},
        {"shape": []},
        {"datatype": "INT"},
        {"data": ["1"]},
        {"data": [True]},
        {"name": 1},
    ],
)
def test_a_bad_tensor_gets_400(address, asked, change):
    good = {"name": "item_id", "shape": [1], "datatype": "INT64", "data": [5]}
    assert post(address, {"inputs": [{**good, **change}]}, "/v2/models/student-0/infer")[0] == 400
    assert post(address, {"inputs": [good, good]}, "/v2/models/student-0/infer")[0] == 400


def request_head(length=None, more=""):
    length = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"POST /score HTTP/1.1\r\nhost: x\r\n{length}\r\n{more}\r\n".encode()


def test_a_body_over_the_limit_is_cut_off_while_it_is_read(address, asked):
    assert b" 413 " in raw(address, request_head(BODY + 1) + b"x" * 100)
    assert b" 400 " in raw(address, request_head(10**30) + b"x" * 100)
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    assert b" 413 " in raw(address, request_head() + chunk * 20)
    host, _, port = address.removeprefix("http://").partition(":")
    sent = 0
    with socket.create_connection((host, int(port))) as endless, contextlib.suppress(ConnectionError):
        endless.sendall(request_head())
        for _ in range(20_000):  # 80 MB, if anybody took them
            endless.sendall(chunk)
            sent += len(chunk)
    assert sent < 20_000 * 4096


def test_a_compressed_body_is_not_unpacked(address, asked):
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < BODY
    assert post(address, bomb, "/score", **{"content-encoding": "gzip"})[0] == 415


def test_a_slow_body_is_given_up_while_others_are_answered(address, asked):
    user, rows = asked
    answers = []

    def slow():
        answers.append(raw(address, request_head(5000) + b'{"user"', timeout=15))

    thread = threading.Thread(target=slow)
    began = time.monotonic()
    thread.start()
    while thread.is_alive():
        assert post(address, {"user": user, "candidates": columns(rows, ITEM)})[0] == 200
        time.sleep(0.05)
    thread.join()
    assert b" 408 " in answers[0]
    assert time.monotonic() - began < 14


def test_clients_that_go_away_leave_nothing_behind(address, asked):
    user, rows = asked
    body = json.dumps({"user": user, "candidates": columns(rows, ITEM)}).encode()
    host, _, port = address.removeprefix("http://").partition(":")
    before = metric(address, 'recdistill_requests_total{form="json",status="500"}')
    for number in range(60):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(request_head(len(body)) + body[: len(body) if number % 2 else 100])
        connection.close()
    assert metric(address, 'recdistill_requests_total{form="json",status="500"}') == before


def test_a_token_is_wanted_where_one_is_set(bundle, tmp_path, asked):
    user, rows = asked
    body = {"user": user, "candidates": columns(rows, ITEM)}
    with server(bundle, "--workers", 1, "--state", tmp_path, environment={"RECDISTILL_TOKEN": "s3cret"}) as (
        address,
        _,
    ):
        assert post(address, body)[0] == 401
        assert post(address, body, authorization="Bearer wrong")[0] == 401
        assert post(address, body, authorization="s3cret")[0] == 401
        assert post(address, body, authorization="Bearer s3cret ")[0] in (200, 401)
        assert post(address, body, authorization="Bearer s3cret")[0] == 200
        assert get(address, "/metrics")[0] == get(address, "/about")[0] == get(address, "/openapi.json")[0] == 401
        assert get(address, "/health/live")[0] == 200
        assert Client(address, token="s3cret").score(**body).scores.shape == (MOST,)


def test_a_server_that_others_can_reach_wants_a_token(bundle, call_cli):
    status, _, error = call_cli("serve", bundle, "--host", "0.0.0.0", "--port", "0")
    assert status == 2
    assert "RECDISTILL_TOKEN" in error


@pytest.fixture
def call_cli(call, monkeypatch):
    monkeypatch.delenv("RECDISTILL_TOKEN", raising=False)
    return call


def test_a_taken_port_and_a_folder_that_is_no_bundle_are_told(bundle, tmp_path, call_cli):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, error = call_cli("serve", bundle, "--port", port, "--state", tmp_path / "state")
    assert (status, "free port" in error) == (2, True)
    for model, words in (
        (tmp_path, "never finished"),
        ("models:/x", "models:/NAME@ALIAS"),
        ("models:/x@y", "tracking store"),
    ):
        status, _, error = call_cli("serve", model, "--port", "0", "--state", tmp_path / "state")
        assert status == 2
        assert words in error


def test_neither_torch_nor_mlflow_is_loaded_by_what_answers(address, asked, bundle, tmp_path):
    with server(bundle, "--workers", 2, "--state", tmp_path / "state") as (_, process):
        found = workers(process)
        assert len(found) == 2
        assert set(children(process).values()) == {"recdistill.serve.worker"}
        for pid in found:
            text = Path(f"/proc/{pid}/maps").read_text()
            assert "onnxruntime" in text
            assert "libtorch" not in text


def test_random_bodies_are_never_our_fault(address, asked):
    """Bytes of a good body changed at random."""
    user, rows = asked
    good = bytearray(json.dumps({"user": user, "candidates": columns(rows[:3], ITEM)}).encode())
    generator, statuses = np.random.default_rng(0), set()
    for _ in range(400):
        body = bytearray(good)
        for place in generator.integers(0, len(body), generator.integers(1, 5)):
            body[place] = generator.integers(0, 256)
        status, _, _ = call(address, "/score", bytes(body))
        statuses.add(status)
    assert statuses <= {200, 400, 413}
    assert {200, 400} <= statuses

"""The log of scored requests: what was answered stands in it, under the id that the caller was told; bounded."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from serve_world import ITEM, TYPES, call, columns, make_bundle, metric, random_rows, server

from recdistill.data.encoder import Encoder
from recdistill.serve import scored_log as module
from recdistill.serve.scored_log import Entry, ScoredLog


def entry(number, num=3, keys=None, user=None):
    scores = np.arange(num, dtype=np.float32) + number
    return Entry(
        at=1_700_000_000_000_000 + number,
        request=f"r{number}",
        model="abc",
        version="7",
        user=user or {},
        keys=keys,
        scores=scores,
    )


def test_parts_hold_every_request_in_order_with_keys_and_users_as_texts(tmp_path):
    log = ScoredLog(tmp_path / "log", ["user_id", "country"], 1 << 30)
    log.offer(entry(0, 2, keys=[11, 12], user={"user_id": 5, "country": "de"}))
    log.offer(entry(1, 1, keys=["a"], user={"user_id": 6}))
    log.offer(entry(2, 2))
    log.close()
    found = pq.read_table(tmp_path / "log", page_checksum_verification=True).to_pylist()
    assert [row["request"] for row in found] == ["r0", "r1", "r2"]
    assert [row["items"] for row in found] == [["11", "12"], ["a"], ["0", "1"]]
    assert [row["scores"] for row in found] == [[0.0, 1.0], [1.0], [2.0, 3.0]]
    assert [(row["user_id"], row["country"]) for row in found] == [("5", "de"), ("6", None), (None, None)]
    assert {(row["model"], row["version"]) for row in found} == {("abc", "7")}


def test_what_does_not_fit_into_memory_is_dropped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_WAITING", 6)
    monkeypatch.setattr(ScoredLog, "_run", lambda self: None)  # a disk that is stuck
    log = ScoredLog(tmp_path, [], 1 << 30)
    before = module.LOG_DROPPED._value.get()
    for number in range(5):
        log.offer(entry(number))
    assert len(log.waiting) == 2
    assert module.LOG_DROPPED._value.get() - before == 3


def test_the_oldest_parts_of_a_full_folder_go(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_EVERY_S", 0.01)
    log = ScoredLog(tmp_path, [], 1)
    for number in range(3):
        log.offer(entry(number))
        while len(log.written) == 0 or log.waiting or not log.written[-1].name.startswith(f"part-{entry(number).at}"):
            pass
    log.close()
    (left,) = tmp_path.iterdir()
    assert pq.read_table(left).column("request").to_pylist() == ["r2"]


@pytest.mark.slow
def test_a_server_logs_what_it_answers_under_the_id_that_it_tells(tiny_prepared, tmp_path):
    bundle = make_bundle(tiny_prepared, tmp_path / "student-0")
    names = Encoder.open(bundle / "encoder").needed
    rows = random_rows(names, 4, seed=2)
    items = [{"item_id": 7 + number, "categories": ["books"], "price": 1.0 + number} for number in range(4)]
    user = {name: value for name, value in rows[0].items() if name not in ITEM} | {"country": "de"}
    pq.write_table(
        pa.Table.from_pylist(items, schema=pa.schema([(name, TYPES[name]) for name in ITEM])),
        tmp_path / "items.parquet",
    )
    body = {"user": user, "items": [7, 9]}
    arguments = [bundle, "--workers", 1, "--log", tmp_path / "log", "--log-columns", "country", "--state", tmp_path]
    with server(*arguments, "--items", tmp_path / "items.parquet", "--item-key", "item_id") as (address, _):
        status, headers, _ = call(address, "/score", body, {"x-request-id": "mine"})
        assert (status, headers["x-request-id"]) == (200, "mine")
        status, headers, text = call(address, "/score", body)
        told = headers["x-request-id"]
        each = {"user": user, "candidates": columns(items, ITEM)}
        assert call(address, "/score", each, {"x-request-id": "columns"})[0] == 200
        assert call(address, "/score", {"user": {}}, {"x-request-id": "bad"})[0] == 400
        assert metric(address, "recdistill_logged_dropped_total") == 0
    found = {row["request"]: row for row in pq.read_table(tmp_path / "log").to_pylist()}
    assert found.keys() == {"mine", told, "columns"}
    assert found[told]["items"] == ["7", "9"]
    assert found["columns"]["items"] == ["7", "8", "9", "10"]
    assert found["mine"]["country"] == "de"
    assert np.allclose(found["mine"]["scores"], json.loads(text)["scores"])
    assert found["mine"]["model"] == json.loads(text)["model"]

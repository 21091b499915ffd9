"""Models change, processes die and the registry hangs while requests come in; those that can be answered are."""

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import threading
import time

import numpy as np
import pytest
from conftest import make_run
from serve_world import ITEM, children, columns, get, make_bundle, metric, post, reseal, server, wait, workers
from test_serve_scorer import of_one_user

from recdistill.bundle import GRAPH
from recdistill.data.encoder import Encoder
from recdistill.promotion.registry import open_registry
from recdistill.serve import Scorer
from recdistill.serve.store import Current, keep, pointer, read_current, write_current
from recdistill.ship.golden import GOLDEN

pytestmark = pytest.mark.slow
REGISTRY = {"--every": "0.2"}


@pytest.fixture(scope="module")
def bundles(tiny_prepared, tmp_path_factory):
    """Two bundles that score differently."""
    root = tmp_path_factory.mktemp("bundles")
    return [make_bundle(tiny_prepared, root / f"student-{seed}", seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def body(bundles):
    user, rows = of_one_user(Encoder.open(bundles[0] / "encoder").needed, 20, seed=3)
    return {"user": user, "candidates": columns(rows, ITEM)}


@pytest.fixture(scope="module")
def wanted(bundles, body):
    """Start of a bundle's digest -> its scores."""
    scorers = [Scorer(bundle) for bundle in bundles]
    return {scorer.digest[:12]: scorer.score(body["user"], candidates=body["candidates"]) for scorer in scorers}


class Load:
    """Threads that ask one after another, each on a connection of its own, and note every answer and every failure."""

    def __init__(self, address, body, num=4):
        self.host = address.removeprefix("http://")
        self.body = json.dumps(body)
        self.answers, self.failures, self.longest = [], [], 0.0
        self.going = True
        self.threads = [threading.Thread(target=self._ask) for _ in range(num)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join()

    def _ask(self):
        connection = http.client.HTTPConnection(self.host, timeout=15)
        while self.going:
            began = time.monotonic()
            try:
                connection.request("POST", "/score", self.body)
                answer = connection.getresponse()
                self.answers.append((answer.status, json.loads(answer.read())))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                time.sleep(0.05)
            self.longest = max(self.longest, time.monotonic() - began)
        connection.close()


def all_right(load, wanted):
    """Every answer names a model and has the scores of exactly that one."""
    assert len(load.answers) > 20
    for status, answer in load.answers:
        assert status == 200, answer
        assert np.allclose(answer["scores"], wanted[answer["model"]], rtol=0, atol=1e-6)
    return {answer["model"] for _, answer in load.answers}


def state_of(folder):
    (found,) = folder.iterdir()
    return found


def test_a_hundred_swaps_under_load_fail_nothing_and_mix_nothing(bundles, body, wanted, tmp_path):
    pointers = [pointer(bundle) for bundle in bundles]
    with server(bundles[0], "--workers", 1, "--state", tmp_path) as (address, _):
        state = state_of(tmp_path)
        with Load(address, body) as load:
            for number in range(1, 101):
                write_current(state, Current(champion=pointers[number % 2]))
                wait(lambda number=number: metric(address, "recdistill_swaps_total") == number + 1)
        assert load.failures == []
        assert all_right(load, wanted) == set(wanted)


def spoil_golden(folder):
    """A bundle that is whole and opens, but answers otherwise than it says."""
    import pyarrow as pa

    with pa.ipc.open_file(folder / GOLDEN) as file:
        table = file.read_all()
    scores = pa.array(table.column("score").to_numpy() + 0.01)
    table = table.set_column(table.schema.get_field_index("score"), "score", scores)
    with pa.ipc.new_file(folder / GOLDEN, table.schema) as writer:
        writer.write_table(table)


def cut_short(folder):
    (folder / GRAPH).write_bytes((folder / GRAPH).read_bytes()[:-500])


def other_encoder(folder):
    about = json.loads((folder / "encoder" / "encoder.json").read_text())
    about["means"] = {"x": 1.0}
    (folder / "encoder" / "encoder.json").write_text(json.dumps(about))


@pytest.mark.parametrize("change", [spoil_golden, cut_short, other_encoder], ids=lambda change: change.__name__)
def test_a_new_model_that_does_not_pass_leaves_the_old_one_in_service(bundles, body, wanted, tmp_path, change):
    bad = shutil.copytree(bundles[1], tmp_path / "bad")
    change(bad)
    reseal(bad)
    good, other = pointer(bundles[0]), pointer(bundles[1])
    with server(bundles[0], "--workers", 1, "--state", tmp_path / "state") as (address, _):
        with Load(address, body) as load:
            write_current(state_of(tmp_path / "state"), Current(champion=pointer(bad)))
            wait(lambda: metric(address, "recdistill_swaps_refused_total") == 1)
            assert get(address, "/health/ready")[0] == 200
            assert pointer(bad).digest in get(address, "/about")[1].decode()
            time.sleep(0.5)
        assert load.failures == []
        assert all_right(load, wanted) == {good.digest[:12]}
        write_current(state_of(tmp_path / "state"), Current(champion=other))
        wait(lambda: post(address, body)[1]["model"] == other.digest[:12])


def test_sigterm_under_load_answers_what_was_accepted(bundles, body, wanted, tmp_path):
    with server(bundles[0], "--workers", 2, "--state", tmp_path) as (address, process), Load(address, body) as load:
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        load.stop()
        assert all_right(load, wanted)
        assert workers(process) == []
        cut = [failure for failure in load.failures if "refused" not in failure.lower()]
        assert len(cut) <= len(load.threads), cut  # a request sent on an idle connection as it closes, at most one each
        assert not any("IncompleteRead" in failure for failure in load.failures)


def test_a_killed_process_is_replaced_while_the_others_answer(bundles, body, wanted, tmp_path):
    with server(bundles[0], "--workers", 2, "--state", tmp_path) as (address, process):
        wait(lambda: len(workers(process)) == 2 and metric(address, "recdistill_swaps_total") == 2)
        with Load(address, body) as load:
            generator = random.Random(0)
            for _ in range(3):
                time.sleep(0.5)
                before = workers(process)
                os.kill(generator.choice(before), signal.SIGKILL)
                wait(lambda before=before: len(set(workers(process)) | set(before)) > 2 and len(workers(process)) == 2)
                time.sleep(3.0)
        assert len(load.failures) <= 3 * len(load.threads), load.failures  # what was in flight
        assert all_right(load, wanted)
        assert load.longest < 10


def test_processes_end_when_their_supervisor_is_killed(bundles, tmp_path):
    with server(bundles[0], "--workers", 1, "--state", tmp_path) as (_, process):
        (pid,) = workers(process)
        process.kill()
        process.wait()
        wait(lambda: not os.path.exists(f"/proc/{pid}") or b"State:\tZ" in _status(pid))


def _status(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        return file.read()
    return b"State:\tZ"


def test_beyond_its_queue_a_server_says_503_at_once_and_recovers(bundles, body, wanted, tmp_path):
    with server(bundles[0], "--workers", 1, "--queue", 2, "--state", tmp_path) as (address, _):
        with Load(address, body, num=40) as load:
            time.sleep(4.0)
        statuses = [status for status, _ in load.answers]
        assert load.failures == []
        assert set(statuses) == {200, 503}
        load.answers = [answer for answer in load.answers if answer[0] == 200]
        assert all_right(load, wanted)
        assert post(address, body)[0] == 200


def test_a_challenger_scores_a_share_unseen(bundles, body, wanted, tmp_path):
    shadow = ("--shadow", bundles[1], "--shadow-share", 0.5)
    with server(bundles[0], "--workers", 1, "--state", tmp_path, *shadow) as (address, _):
        wait(lambda: post(address, body)[0] == 200 and metric(address, "recdistill_shadow_requests_total") >= 1)
        before = metric(address, "recdistill_shadow_requests_total")
        with Load(address, body, num=1) as load:
            wait(lambda: len(load.answers) >= 100)
        assert all_right(load, wanted) == {pointer(bundles[0]).digest[:12]}
        scored = lambda: metric(address, "recdistill_shadow_requests_total") - before  # noqa: E731
        wait(lambda: abs(scored() - len(load.answers) / 2) <= 2)
        total, num = (metric(address, f"recdistill_shadow_difference_{end}") for end in ("sum", "count"))
        one, other = wanted.values()
        assert total / num == pytest.approx(np.abs(one - other).max(), rel=1e-4)


@pytest.fixture
def registry(tiny_log, tmp_path, mlflow_uri, bundles):
    """A real tracking store with both bundles as versions 1 and 2, the first of them champion."""
    run = make_run(tiny_log, tmp_path)
    found = open_registry(run)
    for bundle in bundles:
        tags = {"bundle_sha256": pointer(bundle).digest, "verdict": "PASS"}
        experiment = found.client.create_experiment(f"e-{bundle.name}", artifact_location=(tmp_path / "a").as_uri())
        run_id = found.client.create_run(experiment).info.run_id
        found.client.log_artifacts(run_id, str(bundle), "bundle")
        source = found.client.get_run(run_id).info.artifact_uri + "/bundle"
        found.register(source, run_id, tags)
    found.promote(1, why="first", key="1")
    return found


def served(registry, tmp_path, *more, uri=None, ready=True):
    where = ("--tracking-uri", uri or registry.uri, "--every", 0.2, "--state", tmp_path / "state")
    return server(f"models:/{registry.model}@champion", "--workers", 1, *where, *more, ready=ready)


def test_the_champion_is_followed_without_a_failed_request(registry, body, wanted, tmp_path):
    first, second = wanted
    with served(registry, tmp_path) as (address, process):
        assert set(children(process).values()) == {"recdistill.serve.worker", "recdistill.serve.watch"}
        with Load(address, body) as load:
            wait(lambda: len(load.answers) > 20)
            registry.promote(2, why="better", key="2")
            wait(lambda: post(address, body)[1]["model"] == second)
            registry.rollback(why="worse")
            wait(lambda: post(address, body)[1]["model"] == first)
        assert load.failures == []
        assert all_right(load, wanted) == {first, second}
        assert b'"model_version":"1"' in json.dumps(infer(address, body), separators=(",", ":")).encode()


def infer(address, body):
    status, answer = post(address, {"inputs": []}, "/v2/models/tiny-student/infer")
    assert status == 400
    user, candidates = body["user"], {name: values[:1] for name, values in body["candidates"].items()}
    rows = {**{name: [value] for name, value in user.items()}, **candidates}
    kinds = {"country": "BYTES", "categories": "BYTES", "price": "FP64"}
    inputs = []
    for name, (value,) in rows.items():
        shape = [1, len(value)] if isinstance(value, list) else [1]
        data = value if isinstance(value, list) else [value]
        if value is None:
            return infer(address, {"user": user, "candidates": {n: v[1:] for n, v in body["candidates"].items()}})
        inputs.append({"name": name, "shape": shape, "datatype": kinds.get(name, "INT64"), "data": data})
    status, answer = post(address, {"inputs": inputs}, "/v2/models/tiny-student/infer")
    assert status == 200, answer
    return answer


@pytest.mark.parametrize("fault", ["down", "hanging"])
def test_the_last_good_model_is_served_while_the_registry_does_not_answer(registry, body, wanted, tmp_path, fault):
    with served(registry, tmp_path) as (address, _):
        assert post(address, body)[0] == 200
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        if fault == "hanging":
            deaf.listen(64)  # takes connections and never says a word
        uri = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        began = time.monotonic()
        with served(registry, tmp_path, uri=uri) as (address, process):
            assert time.monotonic() - began < 10
            assert post(address, body)[1]["model"] == next(iter(wanted))
            time.sleep(1.0)
            assert post(address, body)[0] == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0


def test_without_any_model_a_server_is_alive_and_not_ready(registry, tmp_path):
    with served(registry, tmp_path, uri="http://127.0.0.1:9", ready=False) as (address, _):
        wait(lambda: get(address, "/health/live")[0] == 200)
        assert get(address, "/health/ready")[0] == 503


def test_an_artifact_that_is_not_the_registered_one_is_not_served(registry, bundles, body, wanted, tmp_path):
    with served(registry, tmp_path) as (address, _):
        fetched = [path.parent for path in (tmp_path / "a").rglob(GRAPH)]
        (second,) = [folder for folder in fetched if pointer(folder).digest == pointer(bundles[1]).digest]
        other_encoder(second)
        reseal(second)
        registry.promote(2, why="better", key="2")
        time.sleep(2.0)
        assert post(address, body)[1]["model"] == next(iter(wanted))


def test_bundles_on_disk_are_kept_by_digest_and_mended(bundles, tmp_path):
    digest = pointer(bundles[0]).digest
    kept = keep(bundles[0], tmp_path, "1", digest)
    (tmp_path / "bundles" / digest / GRAPH).write_bytes(b"spoiled")
    assert keep(bundles[0], tmp_path, "1", digest) == kept
    assert pointer(tmp_path / "bundles" / digest).digest == digest
    write_current(tmp_path, Current(champion=kept))
    assert read_current(tmp_path) == Current(champion=kept)
    (tmp_path / "current.json").write_text("{")
    assert read_current(tmp_path) is None

"""Eight processes at once against a real MLflow server: one wins, the others are told who did; one version a bundle."""

import multiprocessing
import os

import pytest
from mlflow_server import MlflowServer
from promotion_world import register

from recdistill.promotion.registry import open_store
from recdistill.promotion.succession import Superseded

pytestmark = pytest.mark.slow
NUM = 8


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server.url
    server.kill()


def at_once(work):
    """What `work(number)` returns in each of eight processes that wait for one another; a Superseded as its line."""
    forking = multiprocessing.get_context("fork")
    barrier, answers = forking.Barrier(NUM), forking.Queue()

    def one(number):
        barrier.wait(60)
        try:
            answers.put((number, work(number)))
        except Superseded as error:
            answers.put((number, error.problems[0]))
        except Exception as error:
            answers.put((number, f"not foreseen: {error!r}"))
        answers.close()
        answers.join_thread()
        os._exit(0)

    processes = [forking.Process(target=one, args=(number,)) for number in range(NUM)]
    for process in processes:
        process.start()
    found = dict(answers.get(timeout=300) for _ in processes)
    for process in processes:
        process.join(60)
    return found


@pytest.mark.parametrize("log_exists", [True, False])
def test_of_eight_promotions_at_once_exactly_one_wins(url, log_exists):
    model = f"eight-{log_exists}"
    registry = open_store(url, model)
    baseline = None
    if log_exists:
        baseline = register(registry, f"{model}-first")
        registry.promote(baseline, why="first", key="first")
    versions = [register(registry, f"{model}-{number}") for number in range(NUM)]

    def promote(number):
        mine = open_store(url, model)
        return mine.promote(versions[number], why="mine", key=f"k{number}", who=f"p{number}", replacing=baseline)

    found = at_once(promote)
    lines = [answer for answer in found.values() if isinstance(answer, str)]
    (winner,) = [number for number, answer in found.items() if not isinstance(answer, str)]
    assert len(lines) == NUM - 1
    assert all(f"found version {versions[winner]}, by p{winner}: mine" in line for line in lines)
    assert [event.who for event in registry.history()][-1] == f"p{winner}"
    assert len(registry.history()) == (2 if log_exists else 1)
    assert int(registry.champion().version) == versions[winner]
    assert int(registry.client.get_model_version_by_alias(model, "champion").version) == versions[winner]
    assert registry.misplaced() == []


def test_of_eight_rollbacks_at_once_one_goes_back_one_step(url):
    registry = open_store(url, "back")
    for number in range(3):
        registry.promote(register(registry, f"back-{number}"), why="-", key=f"k{number}")
    events = registry.history()
    found = at_once(lambda number: open_store(url, "back").add(back_of(events, number)))
    assert sum(not isinstance(answer, str) for answer in found.values()) == NUM, "the same key is the same rollback"
    assert [event.action for event in registry.history()] == ["promote"] * 3 + ["rollback"]
    assert int(registry.champion().version) == 2


def back_of(events, number):
    from recdistill.promotion.succession import back

    return back("back", events, why="bad day", who=f"p{number}", at=float(number))


def test_eight_processes_that_register_one_bundle_make_one_version(url):
    registry = open_store(url, "one")
    register(registry, "other")

    def again(number):
        mine = open_store(url, "one")
        run = mine.client.create_run(mine.client.create_experiment(f"one-{number}"))
        tags = {"bundle_sha256": "same", "verdict": "PASS"}
        return int(mine.register(f"{run.info.artifact_uri}/bundle", run.info.run_id, tags).version)

    found = at_once(again)
    assert len(set(found.values())) == 1
    registry.register("needless", "no-run", {"bundle_sha256": "same", "verdict": "PASS"})
    assert len(registry.client.search_model_versions("name='one'")) == 2

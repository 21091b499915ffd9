"""registry.py against a real sqlite store: one version per bundle, promotion, rollback, history, dead servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from recdistill.problems import BadInput
from recdistill.promotion.registry import PREVIOUS, Registry, champions, open_registry


@pytest.fixture
def registry(tiny_run, mlflow_uri) -> Registry:
    return open_registry(tiny_run(registry={"tracking_uri": mlflow_uri}))


def register(registry: Registry, sha: str, verdict: str = "PASS") -> int:
    experiment = registry.client.create_experiment(f"e-{sha}")
    run = registry.client.create_run(experiment)
    version = registry.register(
        f"{run.info.artifact_uri}/bundle", run.info.run_id, {"bundle_sha256": sha, "verdict": verdict}
    )
    return int(version.version)


def test_a_bundle_has_one_version_however_often_it_is_registered(registry):
    first = register(registry, "aa")
    assert register(registry, "bb") == first + 1
    again = registry.register("elsewhere", "no-run", {"bundle_sha256": "aa"})
    assert int(again.version) == first


def test_no_champion_before_the_first_promotion(registry):
    assert registry.champion() is None
    register(registry, "aa")
    assert registry.champion() is None
    assert registry.history() == []


def test_promotions_and_rollbacks_walk_back_through_the_champions(registry):
    one, two, three = (register(registry, sha) for sha in ("aa", "bb", "cc"))
    for version in (one, two, three):
        registry.promote(version, why=f"test {version}", key=f"k{version}", who="ann")
    assert int(registry.champion().version) == three
    assert int(registry.client.get_model_version_by_alias(registry.model, PREVIOUS).version) == two

    back = registry.rollback(why="bad day", who="bob")
    assert (back.version, back.replaced, back.who, back.why) == (two, three, "bob", "bad day")
    assert registry.rollback(why="worse day").version == one
    assert int(registry.champion().version) == one
    with pytest.raises(BadInput, match="wanted a champion before this one, found version 1 only"):
        registry.rollback(why="worst day")
    assert [(e.action, e.version, e.replaced) for e in registry.history()] == [
        ("promote", one, None),
        ("promote", two, one),
        ("promote", three, two),
        ("rollback", two, three),
        ("rollback", one, two),
    ]


def test_a_rollback_without_any_champion_is_one_clear_line(registry):
    with pytest.raises(BadInput, match="found no champion; promote another version"):
        registry.rollback(why="-")


def test_the_same_promotion_twice_is_one_event(registry):
    one = register(registry, "aa")
    for _ in range(2):
        registry.promote(one, why="-", key="same")
    assert len(registry.history()) == 1


def test_a_repeated_promotion_does_not_undo_a_rollback(registry):
    one, two = register(registry, "aa"), register(registry, "bb")
    registry.promote(one, why="-", key="k1")
    registry.promote(two, why="-", key="k2")
    registry.rollback(why="-")
    registry.promote(two, why="the old run again", key="k2")
    assert int(registry.champion().version) == one


CRASH = textwrap.dedent("""
    import os, signal, sys
    from mlflow import MlflowClient
    from recdistill.promotion.registry import Registry
    uri, call = sys.argv[1], sys.argv[2]
    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)
    real = getattr(MlflowClient, call)
    when = sys.argv[3]
    def wrapped(self, *args, **kwargs):
        if when == "before":
            die()
        real(self, *args, **kwargs)
        die()
    setattr(MlflowClient, call, wrapped)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    Registry(client=client, model=sys.argv[4], uri=uri).promote(2, why="-", key="k2")
""")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["set_registered_model_alias", "create_run"])
def test_kill_9_inside_a_promotion_leaves_one_champion_and_a_repeat_ends_the_same(registry, call, when):
    one, two = register(registry, "aa"), register(registry, "bb")
    registry.promote(one, why="-", key="k1")
    command = [sys.executable, "-c", CRASH, registry.uri, call, when, registry.model]
    died = subprocess.run(command, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, check=False, timeout=120)
    assert died.returncode == -signal.SIGKILL
    assert int(registry.champion().version) in (one, two)
    registry.promote(two, why="-", key="k2")
    assert int(registry.champion().version) == two
    assert [(e.version, e.replaced) for e in registry.history()] == [(one, None), (two, one)]
    assert champions(registry.history()) == [one, two]


def test_an_unknown_version_is_one_clear_line(registry):
    register(registry, "aa")
    with pytest.raises(BadInput, match=r"wanted version 7, found versions \[1\]"):
        registry.version(7)


def test_a_tracking_server_that_is_not_there_is_one_clear_line(tiny_run, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BadInput, match="wanted a tracking store"):
        open_registry(tiny_run(registry={"tracking_uri": "http://127.0.0.1:9"}))

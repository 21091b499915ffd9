"""registry.py against a real sqlite store: one version per bundle, promotion, rollback, history, dead servers."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from dataclasses import replace

import pytest

from recdistill.problems import BadInput
from recdistill.promotion.registry import Registry, open_registry, open_store
from recdistill.promotion.succession import Superseded


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
    assert int(registry.aliased("previous_champion").version) == two

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


def test_a_version_judged_against_another_champion_is_refused(registry):
    one, two, three = (register(registry, sha) for sha in ("aa", "bb", "cc"))
    registry.promote(one, why="first", key="k1", replacing=None)
    registry.promote(two, why="better", key="k2", replacing=one, who="ann")
    with pytest.raises(Superseded, match="wanted version 1, found version 2, by ann: better; run it again"):
        registry.promote(three, why="-", key="k3", replacing=one)
    with pytest.raises(Superseded, match="wanted no champion, found version 2"):
        registry.promote(three, why="-", key="k3", replacing=None)
    assert [event.version for event in registry.history()] == [one, two]
    assert registry.promote(one, why="-", key="k1", replacing=None).version == one, "an old one again is no new one"
    assert int(registry.champion().version) == two


def test_a_version_goes_from_challenger_by_shadow_to_champion(registry):
    one, two = register(registry, "aa"), register(registry, "bb")
    registry.promote(one, why="-", key="k1")
    under = lambda: {a: str(v) for a, v in registry.client.get_registered_model(registry.model).aliases.items()}  # noqa: E731
    registry.promote(two, why="-", key="k2", to="challenger")
    assert under() == {"champion": "1", "challenger": "2"}
    registry.promote(two, why="-", key="k3", to="shadow")
    assert under() == {"champion": "1", "shadow": "2"}
    registry.promote(two, why="-", key="k4", replacing=one)
    assert under() == {"champion": "2", "previous_champion": "1"}
    assert registry.aliased("shadow") is None
    assert [event.action for event in registry.history()] == ["promote", "challenger", "shadow", "promote"]


def test_an_alias_that_somebody_moved_misleads_nobody_and_is_put_back(registry):
    one, two = register(registry, "aa"), register(registry, "bb")
    registry.promote(one, why="-", key="k1")
    registry.client.set_registered_model_alias(registry.model, "champion", str(two))
    assert int(registry.champion().version) == one
    assert registry.misplaced() == [
        "tiny-student@champion: wanted version 1, found 2; `recdistill history --settle` moves it there"
    ]
    registry.settle()
    assert registry.misplaced() == []
    assert int(registry.client.get_model_version_by_alias(registry.model, "champion").version) == one


def test_a_store_that_was_in_use_before_the_log_goes_on_with_its_champion(registry):
    one, two = register(registry, "aa"), register(registry, "bb")
    registry.client.set_registered_model_alias(registry.model, "champion", str(one))
    assert int(registry.champion().version) == one
    registry.promote(two, why="-", key="k2", replacing=one)
    assert registry.rollback(why="-").version == one


def test_the_log_is_an_artifact_and_a_file_and_a_store_put_back_is_noticed(registry, tmp_path):
    one, two = register(registry, "aa"), register(registry, "bb")
    registry.promote(one, why="-", key="k1")
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "old.db")
    registry.promote(two, why="-", key="k2")
    entries = registry.log_entries()
    assert len(entries) == 2
    assert registry.copy.read_text().splitlines() == entries
    kept = sorted(path.name for path in (tmp_path / "mlflow-artifacts").rglob("promotions/*"))
    assert kept == ["000001.json", "000002.json"]
    before = open_store(f"sqlite:///{tmp_path}/old.db", registry.model, copy=registry.copy)
    for ask in (before.history, before.champion, before.settle, lambda: before.promote(two, why="-", key="k3")):
        with pytest.raises(BadInput, match="found 1 entries that do not go on from the 2 in"):
            ask()


def test_a_changed_entry_stops_every_use_of_the_log(registry, tmp_path):
    registry.promote(register(registry, "aa"), why="honest", key="k1")
    registry.promote(register(registry, "bb"), why="honest", key="k2")
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        store.execute("update params set value = replace(value, 'honest', 'forged') where key = '000001'")
    other_machine = replace(registry, copy=None)
    with pytest.raises(BadInput, match="entry 2: wanted the sha256 of entry 1, found another"):
        other_machine.champion()
    with pytest.raises(BadInput, match="do not go on"):
        registry.champion()


def test_a_reregistered_version_has_the_new_verdict_until_it_reaches_a_stage(registry):
    number = register(registry, "aa", verdict="FAIL")
    again = {"bundle_sha256": "aa", "verdict": "PASS", "baseline": "7"}
    registry.register("elsewhere", "no-run", again)
    assert registry.version(number).tags == again
    registry.promote(number, why="-", key="k")
    registry.register("elsewhere", "no-run", {**again, "verdict": "FAIL"})
    assert registry.version(number).tags == again


def test_of_two_versions_made_at_once_the_first_stays(registry):
    first = register(registry, "aa")
    registry.client.create_model_version(registry.model, "late", tags={"bundle_sha256": "aa"})
    assert int(registry.register("elsewhere", "no-run", {"bundle_sha256": "aa"}).version) == first
    assert len(registry.client.search_model_versions(f"name='{registry.model}'")) == 1


def test_an_unknown_version_is_one_clear_line(registry):
    register(registry, "aa")
    with pytest.raises(BadInput, match=r"wanted version 7, found versions \[1\]"):
        registry.version(7)


def test_a_tracking_server_that_is_not_there_is_one_clear_line(tiny_run, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BadInput, match="wanted a tracking store"):
        open_registry(tiny_run(registry={"tracking_uri": "http://127.0.0.1:9"}))

"""last_good.py: a rollback while MLflow is away is done here, once, and told to MLflow when it answers again."""

import logging
from pathlib import Path

import pytest

from recdistill.bundle import bundle_digest
from recdistill.files import whole_folder
from recdistill.problems import BadInput
from recdistill.promotion.last_good import remember, replay, roll_back, roll_back_here
from recdistill.promotion.registry import open_registry
from recdistill.promotion.succession import Superseded
from recdistill.serve.serving import champion_state
from recdistill.serve.store import read_current
from recdistill.serve.watch import Watch, follow

AWAY = "http://127.0.0.1:9"


@pytest.fixture
def world(tiny_run, mlflow_uri, tmp_path):
    """(run, registry, its server's memory, what the server asks) after champions 1, 2 and 3."""
    run = tiny_run(registry={"tracking_uri": mlflow_uri})
    registry = open_registry(run)
    for number in (1, 2, 3):
        with whole_folder(tmp_path / f"bundle-{number}", {}) as folder:
            (folder / "student.onnx").write_text(f"graph {number}")
        client = registry.client
        made = client.create_run(client.create_experiment(f"e-{number}", artifact_location=registry.artifacts))
        client.log_artifacts(made.info.run_id, str(tmp_path / f"bundle-{number}"), "bundle")
        tags = {"bundle_sha256": bundle_digest(tmp_path / f"bundle-{number}"), "verdict": "PASS"}
        registry.register(f"{made.info.artifact_uri}/bundle", made.info.run_id, tags)
        registry.promote(number, why="-", key=f"k{number}")
    state = champion_state(run.model, tmp_path / "state")
    watch = Watch(uri=mlflow_uri, model=run.model, state=str(state), champion="champion")
    follow(registry, watch)
    return run, registry, state, watch


def served(state: Path) -> str:
    found = read_current(state)
    assert found is not None
    assert (Path(found.champion.folder) / "student.onnx").read_text() == f"graph {found.champion.version}"
    return found.champion.version


def away(run):
    return run.model_copy(update={"registry": run.registry.model_copy(update={"tracking_uri": AWAY})})


def test_with_mlflow_it_is_the_registrys_rollback(world, tmp_path):
    run, registry, state, watch = world
    event, known = roll_back(run, why="bad day", who="ann", state=tmp_path / "state")
    assert (event.version, known) == (2, True)
    assert served(state) == "2"
    follow(registry, watch)
    assert served(state) == "2"


def test_without_mlflow_it_is_done_here_and_told_later_once(world, tmp_path, monkeypatch):
    run, registry, state, watch = world
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    event, known = roll_back(away(run), why="bad day", who="ann", state=tmp_path / "state")
    assert (event.version, event.replaced, known) == (2, 3, False)
    assert served(state) == "2"
    for _ in range(2):
        follow(registry, watch)
        assert served(state) == "2"
        last = registry.history()[-1]
        assert (last.action, last.version, last.replaced, last.who, last.why) == ("rollback", 2, 3, "ann", "bad day")
        assert len(registry.history()) == 4
    assert int(registry.client.get_model_version_by_alias(run.model, "champion").version) == 2


def test_one_on_another_machine_is_the_same_rollback(world):
    run, registry, state, watch = world
    roll_back_here(state, run.model, why="bad day", who="ann", at=1.0)
    registry.rollback(why="bad day, said with MLflow", who="bob")
    follow(registry, watch)
    assert [event.who for event in registry.history()][3:] == ["bob"]
    assert served(state) == "2"


def test_a_champion_that_came_meanwhile_stays(world, caplog):
    run, registry, state, watch = world
    roll_back_here(state, run.model, why="bad day", who="ann", at=1.0)
    registry.promote(1, why="mended", key="k4")
    with caplog.at_level(logging.WARNING, "recdistill.promotion"):
        follow(registry, watch)
    assert "a rollback that was done without MLflow is void" in caplog.text
    assert served(state) == "1"
    assert [event.action for event in registry.history()] == ["promote"] * 4
    replay(registry, state)
    assert len(registry.history()) == 4


def test_two_steps_back_want_a_bundle_that_is_here(world, tmp_path):
    run, registry, state, watch = world
    roll_back_here(state, run.model, why="bad day", who="ann", at=1.0)
    with pytest.raises(BadInput, match="never finished"):
        roll_back_here(state, run.model, why="worse day", who="ann", at=2.0)
    assert served(state) == "2"
    follow(registry, watch)
    remember(registry, state)
    assert roll_back_here(state, run.model, why="worse day", who="ann", at=3.0).version == 1
    assert served(state) == "1"
    with pytest.raises(BadInput, match="wanted a champion before this one, found version 1 only"):
        roll_back_here(state, run.model, why="worst day", who="ann", at=4.0)


def test_a_memory_that_is_behind_mlflow_is_refused_and_brought_up_to_date(world, tmp_path):
    run, registry, state, watch = world
    registry.promote(1, why="mended", key="k4", who="bob")
    with pytest.raises(Superseded, match="wanted version 3, found version 1, by bob: mended; run it again"):
        roll_back(run, why="bad day", who="ann", state=tmp_path / "state")
    assert served(state) == "3"
    follow(registry, watch)
    assert served(state) == "1"
    event, known = roll_back(run, why="bad day", who="ann", state=tmp_path / "state")
    assert (event.version, event.replaced, known) == (3, 1, True)


def test_where_nobody_serves_and_mlflow_is_away_it_says_so(world, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BadInput, match="wanted what a server remembers, found nothing; start the tracking store"):
        roll_back(away(world[0]), why="-", who="ann", state=tmp_path / "elsewhere")

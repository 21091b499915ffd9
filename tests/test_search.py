"""A search finds the best student within a budget, goes on after kill -9, and leaves a config that runs."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from conftest import make_run

from recdistill.config.load import load
from recdistill.problems import BadInput
from recdistill.search.report import CHOSEN, CSV, PLOT, Budget, table_of
from recdistill.search.space import first_choice, settings, space_of
from recdistill.search.study import search
from recdistill.types import IdFeature, Layout

WIDE = Budget(p99_ms=1e4, megabytes=1e3)


def layout(num_rows):
    item = IdFeature(name="item_id", table="item_id", start=0, width=1, num_rows=num_rows, kind="single")
    return Layout(ids=(item,), dense=())


def test_the_runs_own_student_is_the_first_choice_and_settings_make_it_again(tmp_path):
    run = make_run(tmp_path, tmp_path, student={"width": 3, "tower": [9, 5]})
    space = space_of(run, layout(50))
    choice = first_choice(run, space)
    again = type(run).model_validate(settings(run, space, choice))
    assert again == run
    assert space.kinds == ("plain",)


def test_large_tables_alone_may_be_hashed(tmp_path):
    run = make_run(tmp_path, tmp_path)
    space = space_of(run, layout(4000))
    choice = {**first_choice(run, space), "kind": "hashed", "quantise": "int4"}
    made = type(run).model_validate(settings(run, space, choice))
    assert made.student.table_of("item_id").rows == 1000
    assert made.student.table_of("country").kind == "plain"
    assert made.export.quantise == "int4"


def test_the_table_says_what_fits_and_what_is_beaten():
    outcomes = [(0.70, 1.0, 100), (0.75, 3.0, 100), (0.74, 3.0, 100), (0.80, 9.0, 900)]
    done = [(n, {"width": n}, {"auc": a, "p99_ms": p, "bytes": b}) for n, (a, p, b) in enumerate(outcomes)]
    found = table_of(done, Budget(p99_ms=3.0, megabytes=1e-4)).set_index("trial")
    assert found.index.tolist() == [3, 1, 2, 0]  # best first
    assert found["pareto"].to_dict() == {0: True, 1: True, 2: False, 3: True}
    assert found["fits"].to_dict() == {0: True, 1: True, 2: True, 3: False}


@pytest.fixture(scope="module")
def searched(tiny_log, tmp_path_factory):
    run = make_run(tiny_log, tmp_path_factory.mktemp("search"), student={"seeds": 1})
    return run, search(run, WIDE, trials=3, candidates=50)


@pytest.mark.slow
def test_every_trial_is_a_line_with_quality_time_and_bytes(searched):
    run, found = searched
    table = pd.read_csv(found.folder / CSV)
    assert len(table) == 3
    assert set(table["trial"]) == {0, 1, 2}
    own = table[table["trial"] == 0].iloc[0]
    assert (own["width"], own["tower"]) == (run.student.width, "8")
    assert (table[["p50_ms", "p99_ms", "p99_ratio", "bytes"]] > 0).all(axis=None)
    assert table["auc"].between(0.4, 1).all()
    assert found.chosen["auc"] == pytest.approx(table["auc"].max())
    assert b"<svg" in (found.folder / PLOT).read_bytes()


@pytest.mark.slow
def test_more_trials_go_on_from_those_there_are_and_a_tighter_budget_needs_none(searched):
    run, found = searched
    more = search(run, WIDE, trials=4, candidates=50)
    assert more.folder == found.folder
    assert len(more.table) == 4
    least = int(more.table["bytes"].min())
    tight = search(run, Budget(p99_ms=1e4, megabytes=least / 1e6), trials=4, candidates=50)
    assert tight.chosen["bytes"] == least
    with pytest.raises(BadInput, match="wanted one of 4 students within 1e-06 ms"):
        search(run, Budget(p99_ms=1e-6, megabytes=1), trials=4, candidates=50)


@pytest.mark.slow
def test_the_chosen_student_is_a_config_that_can_be_read_and_says_its_command(searched):
    run, found = searched
    text = (found.folder / CHOSEN).read_text()
    assert text.startswith(f"# recdistill run {found.config}")
    chosen = load(found.config)
    assert chosen.student.width == found.chosen["width"]
    assert chosen.export.quantise == found.chosen["quantise"]
    assert chosen.data == run.data
    assert chosen.folder == run.folder


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_with_the_trials_that_were_done(tiny_log, tmp_path):
    run = make_run(tiny_log, tmp_path, student={"seeds": 1})
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(run.model_dump(mode="json", exclude_unset=True)))
    command = [
        sys.executable,
        "-m",
        "recdistill",
        "search",
        str(config),
        "--trials",
        "3",
        "--candidates",
        "20",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not _completed(run):
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = _completed(run)
    assert 1 <= before < 3
    done = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["trials"] == 3 == _completed(run)
    assert load(said["config"]).student.width == said["width"]
    assert np.isfinite(said["auc"])


def _completed(run):
    from pathlib import Path

    stores = list(Path(run.folder).glob("search-*/study.db"))
    if not stores:
        return 0
    try:
        study = optuna.load_study(study_name="search", storage=f"sqlite:///{stores[0]}")
        return len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)))
    except Exception:  # the store is being made
        return 0

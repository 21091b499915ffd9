"""cli.py as a user meets it: exit statuses, one clear line per problem, JSON in the last line, the champion's verbs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import make_run

from recdistill.cli import main as cli
from recdistill.pipeline import STEPS
from recdistill.promotion.registry import open_registry

OVERRIDES = [
    "gates.control_margin=-1",
    "gates.champion_margin=1",
    "gates.max_ece=1",
    "gates.max_parameter_share=1",
    "gates.floors={auc: 0.3}",
]


@pytest.fixture
def config(tiny_log, tmp_path, mlflow_uri, monkeypatch):
    """A YAML of the tiny run, in the current folder."""
    monkeypatch.chdir(tmp_path)
    settings = make_run(tiny_log, tmp_path).model_dump(mode="json", exclude_none=True)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_the_step_commands_are_the_steps():
    assert tuple(step.name for step in STEPS) == cli.STEP_NAMES


def test_run_again_other_recipe_history_rollback(config, call):
    status, out, _ = call("run", config, *OVERRIDES)
    assert status == 0
    first = json.loads(out.splitlines()[-1])
    assert first["verdict"] == "PASS"
    assert {"teacher", "student", "control", "recovery", "version", "run_dir"} <= first.keys()
    assert len(first["student"]["auc"]) == 3

    status, out, _ = call("run", config, *OVERRIDES)
    assert (status, json.loads(out.splitlines()[-1])) == (0, first)
    assert "did: nothing, all was up to date" in out

    status, out, _ = call("run", config, *OVERRIDES, "student.width=3", "--quiet")
    (line,) = out.splitlines()
    assert (status, json.loads(line)["version"]) == (0, 2)

    status, out, _ = call("history", config)
    assert status == 0
    assert re.findall(r"version \S+ for \S+", out) == ["version 1 for -", "version 2 for 1"]
    status, out, _ = call("rollback", config, "--why", "bad day")
    assert (status, "champion is version 1 again, instead of 2" in out) == (0, True)
    status, _, err = call("rollback", config)
    assert (status, "wanted a champion before this one" in err) == (2, True)
    assert "bad day" in call("history", config)[1]

    status, out, _ = call("run", config, *OVERRIDES, "student.width=3")
    assert "did: nothing" in out, "a rerun must not undo the rollback"
    assert "version 1 for 2" in call("history", config)[1].splitlines()[-1]

    status, out, _ = call("run", config, *OVERRIDES, "gates.floors={auc: 0.999}")
    found = json.loads(out.splitlines()[-1])
    assert (status, found["verdict"], found["version"]) == (1, "FAIL", 1)
    assert "FAIL" in out


def test_promote_by_hand_wants_a_verdict_or_force(config, call):
    call("run", config, *OVERRIDES)
    call("run", config, *OVERRIDES, "gates.floors={auc: 0.999}", "student.width=3")
    status, _, err = call("promote", config, "2")
    assert (status, "wanted verdict PASS, found FAIL; use --force" in err) == (2, True)
    status, out, _ = call("promote", config, "2", "--force", "--why", "we know better")
    assert (status, "champion is version 2" in out) == (0, True)
    status, _, err = call("promote", config, "9")
    assert (status, "wanted version 9" in err) == (2, True)


def broken_log(log: Path, folder: Path, **columns) -> Path:
    """A copy of a log in which the second file has other columns; None drops one."""
    shutil.copytree(log, folder)
    (folder / "_manifest.json").unlink()  # which would tell of any change by its sha256
    path = sorted(folder.rglob("*.parquet"))[1]
    table = pq.read_table(path, partitioning=None)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        if values is None:
            table = table.drop_columns([name])
        else:
            table = table.set_column(place, name, values(table.column(name)))
    pq.write_table(table, path)
    return folder


WRONG_LOGS = {
    "missing column": ({"price": None}, "column price: wanted double"),
    "string for number": ({"price": lambda c: pa.array(["dear"] * len(c))}, "column price: wanted double"),
    "label of 2": (
        {"clicked": lambda c: pa.array([2] * len(c), pa.int8())},
        "column clicked: wanted a label of 0 or 1, found 2",
    ),
}


@pytest.mark.parametrize("case", WRONG_LOGS)
def test_a_wrong_log_is_one_line_status_2_no_files_and_the_champion(config, call, tiny_log, tmp_path, case):
    columns, expected = WRONG_LOGS[case]
    registry = open_registry(make_run(tiny_log, tmp_path))
    log = broken_log(tiny_log, tmp_path / "broken", **columns)
    status, out, err = call("run", config, f"data.source={log}")
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert expected in line
    assert sorted(log.rglob("*.parquet"))[1].name in line
    left = {path.name for path in tmp_path.glob("run/*")} - {".lock"}
    assert left <= {"parts", "quarantine.parquet"}, "what was read and what was wrong with it, no step"
    assert registry.champion() is None
    assert "Traceback" not in err


WRONG_SETTINGS = {
    "empty window": (["data.start=2030-01-01T00:00:00"], "data window: wanted rows, found none"),
    "unknown objective": (["recipe={terms: [list.clud]}"], "did you mean list.clid?"),
    "typo in a section": (["teecher.width=3"], "did you mean teacher?"),
    "typo in a key": (["student.widht=3"], "did you mean width?"),
    "typo in a nested key": (["data.label.colum=x"], "did you mean column?"),
    "missing column everywhere": (["data.user=nobody"], "column nobody: wanted such a column"),
    "string column as a number": (
        ["data.label.column=country", "features.ids=[item_id]"],
        "column country: wanted a number",
    ),
    "no log": (["data.source=nowhere"], "data.source nowhere: wanted a folder of Parquet files"),
    "no assignment": (["teacher.width"], "wanted section.field=value"),
}


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_wrong_settings_are_one_line_and_status_2(config, call, tmp_path, case):
    overrides, expected = WRONG_SETTINGS[case]
    status, out, err = call("run", config, *overrides)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert expected in line
    left = {path.name for path in tmp_path.glob("run/*")} - {".lock"}
    assert left <= {"parts", "quarantine.parquet"}, "what was read and what was wrong with it, no step"


def test_every_problem_is_told_at_once(config, call):
    status, _, err = call("run", config, "teacher.widht=3", "student.epochs=0", "recipe={terms: [list.clud]}")
    assert (status, len(err.splitlines())) == (2, 3)


def test_check_tells_the_windows_and_writes_nothing(config, call, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    status, out, _ = call("check", config)
    assert status == 0
    begins = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert [word for word in begins if word in ("train", "valid", "test")] == ["train", "valid", "test"]
    assert {"user_id", "price", "clicked"} <= set(begins), "a line per column"
    assert sorted(tmp_path.rglob("*")) == before


def test_recipes_lists_every_plug_in_and_shows_one(call):
    status, out, _ = call("recipes")
    assert status == 0
    assert {"label.bce", "point.soft_bce", "point.logit_mse", "list.softmax_kl", "list.clid"} <= set(out.split())
    assert "arXiv 2312.08727" in call("recipes", "list.clid")[1]
    assert "arXiv 2402.17152" in call("recipes", "hstu")[1]
    status, _, err = call("recipes", "list.clud")
    assert (status, "did you mean list.clid?" in err) == (2, True)


def test_synth_replaces_only_its_own(call, tmp_path):
    status, out, _ = call("synth", tmp_path / "log", "--rows", "2000", "--days", "3")
    assert (status, "rows of 2,000 users" in out) == (0, True)
    assert call("synth", tmp_path / "log", "--rows", "2000", "--days", "3")[0] == 0
    (tmp_path / "mine").mkdir()
    status, _, err = call("synth", tmp_path / "mine")
    assert (status, "wanted no folder, or a generated log" in err) == (2, True)
    assert not list((tmp_path / "mine").iterdir())


def test_the_installed_command_has_quick_help_and_no_traceback(tmp_path):
    command = Path(sys.executable).with_name("recdistill")
    shown = subprocess.run([command, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "rollback" in shown.stdout
    code = "import sys, recdistill.cli.main; sys.exit(any(m in sys.modules for m in ('torch', 'mlflow', 'pyarrow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, "help must not import torch"
    failed = subprocess.run(
        [command, "run", "nowhere.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.splitlines() == [
        "nowhere.yaml: wanted a YAML file, found No such file or directory; see configs/demo.yaml for one that works"
    ]

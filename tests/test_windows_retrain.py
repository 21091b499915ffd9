"""Windows are done once, in order, whatever breaks; with a run that is faked here and real ones in the slow tests."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import make_run, write_log

from recdistill.files import read_json, whole_folder, write_json
from recdistill.pipeline import Done
from recdistill.problems import BadInput
from recdistill.windows import retrain
from recdistill.windows.ledger import open_ledger
from recdistill.windows.retrain import MOST_ATTEMPTS, accounts, catch_up, retrain_window, window_ending

STEPS = ("prepare", "train_teacher", "score", "distil", "export", "evaluate", "decide", "publish")
DAY_US = 86_400_000_000
LENIENT = {"floors": {"auc": 0.3}, "control_margin": -1.0, "champion_margin": 1.0, "reference_margin": 1.0}


def add_day(log, number, value=0):
    write_log(log, {f"day=2026-01-{number:02}/part-0.parquet": pa.table({"value": [value]})})


class FakeRuns:
    """In place of run_all: folders of steps, a result, and what each run was asked to do. bad: files it refuses."""

    def __init__(self):
        self.runs, self.bad, self.breaks, self.verdicts = [], set(), {}, {}

    def __call__(self, run, call, until="publish"):
        root = Path(run.folder)
        self.runs.append(run)
        listed = read_json(Path(run.data.manifest))["files"]
        if wrong := self.bad & {file["name"] for file in listed}:
            raise BadInput([f"{name}: wanted labels, found garbage; mend it" for name in sorted(wrong)])
        if self.breaks.get(root.name[:13], 0):
            self.breaks[root.name[:13]] -= 1
            raise OSError("disk")
        folders = {step: root / f"{step}-key" for step in STEPS[: STEPS.index(until) + 1]}
        for step, folder in folders.items():
            with whole_folder(folder, {"step": step, "key": "key"}) as out:
                if step == "prepare":
                    valid = run.data.split.valid_from.timestamp() * 1e6
                    write_json(out / "data.json", {"windows": {"valid": int(valid), "embargo": 0}})
        return Done(folders=folders, did=STEPS)

    def result(self, run, folders):
        return {"verdict": self.verdicts.get(Path(run.folder).name[:13], "PASS"), "version": len(self.runs)}

    @property
    def names(self):
        return [Path(run.folder).name[:10] for run in self.runs]


@pytest.fixture
def fake(monkeypatch):
    found = FakeRuns()
    monkeypatch.setattr(retrain, "run_all", found)
    monkeypatch.setattr(retrain, "result", found.result)
    monkeypatch.setattr(retrain, "warm_start_cost", lambda *_: {"cost": {"auc": [0.0, 0.0, 0.0]}})
    return found


@pytest.fixture
def world(tmp_path, fake):
    """A run with windows of three days on a log of four; a fourth and fifth window wait to be added."""
    for number in range(1, 5):
        add_day(tmp_path / "log", number)
    return make_world(tmp_path)


def make_world(root, **sections):
    windows = {"first": "2026-01-01", "length": 3, "lateness": "2d", "full_every": 3}
    data = {"partition": {"column": "day"}, "split": {}}
    return make_run(root / "log", root, **{"windows": windows, "data": data, **sections})


def states(run):
    return [account.state for account in accounts(run)]


def test_every_due_window_is_done_once_oldest_first(world, fake):
    done = catch_up(world)
    assert [(r.window, r.state, r.verdict) for r in done] == [
        ("2026-01-04T00", "done", "PASS"),
        ("2026-01-05T00", "done", "PASS"),
    ]
    assert catch_up(world) == []
    assert fake.names == ["2026-01-04", "2026-01-05"]


def test_a_second_call_for_a_window_returns_the_firsts_record(world, fake):
    window = accounts(world)[0].window
    first = retrain_window(world, window)
    assert retrain_window(world, window) == first
    assert retrain_window(make_world(Path(world.folder).parent, threads=2), window) == first
    assert len(fake.runs) == 1
    assert retrain_window(world, window, again=True).result == {"verdict": "PASS", "version": 2}


def test_other_settings_are_another_run_of_a_window_but_never_of_all_past_ones(world, fake):
    catch_up(world)
    other = make_world(Path(world.folder).parent, seed=9)
    assert catch_up(other) == []
    window = accounts(other)[0].window
    assert retrain_window(other, window).config != open_ledger(world).config
    assert len(fake.runs) == 3


def test_those_between_full_ones_go_on_from_the_last_run_with_what_is_new(world, tmp_path, fake):
    add_day(tmp_path / "log", 5)
    add_day(tmp_path / "log", 6)
    done = catch_up(world)
    assert [(r.kind, r.since_full) for r in done] == [("full", 0), ("incremental", 1), ("incremental", 2), ("full", 0)]
    assert [r.base and r.base[:10] for r in done] == [None, "2026-01-04", "2026-01-05", "2026-01-06"]
    full, warm = fake.runs[0], fake.runs[1]
    assert full.data.split.train_from is None
    assert full.teacher.warm_start is None
    assert warm.data.split.train_from == full.data.split.valid_from
    assert warm.features.grow_from == done[0].folders["prepare"]
    assert warm.teacher.warm_start == done[0].folders["train_teacher"]
    assert warm.student.warm_start == done[0].folders["distil"]
    assert [r.cost is not None for r in done] == [False, False, False, True]


def test_a_run_that_failed_its_gates_is_no_base(world, fake):
    fake.verdicts["2026-01-04T00"] = "FAIL"
    first, second = catch_up(world)
    assert (first.verdict, first.status) == ("FAIL", 1)
    assert (second.kind, second.base) == ("full", None)


def test_refused_data_are_read_by_no_later_window(world, tmp_path, fake):
    run = make_world(tmp_path, windows={"first": "2026-01-01", "length": 4})
    catch_up(run)
    fake.bad = {"day=2026-01-05/part-0.parquet"}
    for number in (5, 6):
        add_day(tmp_path / "log", number)
    refused, after = catch_up(run)
    assert (refused.state, refused.status, after.state) == ("refused", 2, "done")
    assert refused.problems == ["day=2026-01-05/part-0.parquet: wanted labels, found garbage; mend it"]
    last = fake.runs[-1].data
    read = [file["name"] for file in read_json(Path(last.manifest))["files"]]
    assert read == [f"day=2026-01-{number:02}/part-0.parquet" for number in (3, 4, 6)]
    assert [at.day for at in (last.split.valid_from, last.split.test_from)] == [4, 6]


def test_a_window_with_too_little_left_is_skipped_with_the_reason(world, tmp_path, fake):
    catch_up(world)
    fake.bad = {"day=2026-01-05/part-0.parquet"}
    for number in (5, 6):
        add_day(tmp_path / "log", number)
    refused, after = catch_up(world)
    assert (refused.state, after.state) == ("refused", "skipped")
    assert "wanted more than 2 usable partitions, found 2 of 3" in after.problems[0]


def test_a_mended_partition_is_read_again(world, tmp_path, fake):
    catch_up(world)
    fake.bad = {"day=2026-01-05/part-0.parquet"}
    add_day(tmp_path / "log", 5)
    (refused,) = catch_up(world)
    fake.bad = set()
    add_day(tmp_path / "log", 5, value=1)
    assert catch_up(world) == []  # it is accounted for,
    window = accounts(world)[-1].window
    assert retrain_window(world, window, again=True).state == "done"  # unless asked again
    assert refused.held_back.keys() == {"day=2026-01-05/part-0.parquet"}


def test_before_any_window_is_done_the_config_may_be_at_fault(world, fake):
    fake.bad = {"day=2026-01-03/part-0.parquet"}
    with pytest.raises(BadInput, match="found garbage"):
        catch_up(world)
    assert states(world) == ["due", "due"]


def test_what_breaks_is_tried_again_and_given_up_in_the_end(world, fake):
    fake.breaks["2026-01-04T00"] = MOST_ATTEMPTS
    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(OSError, match="disk"):
            catch_up(world)
    failed, after = catch_up(world)
    assert (failed.state, failed.status, after.state) == ("failed", 2, "done")
    assert len(fake.runs) == MOST_ATTEMPTS + 1


def test_a_second_attempt_reads_what_the_first_did(world, tmp_path, fake):
    fake.breaks["2026-01-04T00"] = 1
    with pytest.raises(OSError, match="disk"):
        catch_up(world)
    write_log(tmp_path / "log", {"day=2026-01-03/late.parquet": pa.table({"value": [5]})})
    catch_up(world)
    read = [{file["name"] for file in read_json(Path(run.data.manifest))["files"]} for run in fake.runs]
    assert read[0] == read[1]
    assert "day=2026-01-03/late.parquet" in read[2]


def test_a_late_partition_holds_all_up_until_it_is_there_or_given_up(world, tmp_path, fake):
    catch_up(world)
    add_day(tmp_path / "log", 6)
    assert catch_up(world) == []
    assert states(world)[2:] == ["waiting", "waiting"]
    add_day(tmp_path / "log", 5)
    assert [r.state for r in catch_up(world)] == ["done", "done"]
    add_day(tmp_path / "log", 8)
    add_day(tmp_path / "log", 9)
    assert next(iter(catch_up(world))).state == "skipped"
    assert catch_up(world) == []


def test_a_window_is_found_by_its_end(world):
    window = accounts(world)[1].window
    assert window_ending(world, window.end) == window
    with pytest.raises(BadInput, match="wanted the end of one, as in 2026-01-04T00, 2026-01-05T00, found"):
        window_ending(world, replace(window, end=window.start).end)


def test_a_config_without_windows_is_told(tmp_path):
    with pytest.raises(BadInput, match="windows: wanted this section of the config, found none"):
        accounts(make_run(tmp_path, tmp_path))


# --- slow: real runs ---


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_uri")
def test_a_real_week_is_incremental_and_its_full_window_says_what_that_cost(tiny_log, tmp_path):
    days = sorted(tiny_log.glob("day=*"))
    log = tmp_path / "log"
    for number in range(4):
        shutil.copytree(days[number], log / days[number].name)
    gates = {**LENIENT, "max_ece": None, "max_parameter_share": 1.0}
    windows = {"first": "2026-01-01", "length": 4, "full_every": 2}
    target = {"previous": "last", "targets": [{"use": "delta", "alpha": 1.0}], "terms": ["point.soft_bce"]}
    sections = {"student": {"seeds": 1}, "gates": gates, "recipe": target}
    run = make_world(tmp_path, windows=windows, **sections)
    (first,) = catch_up(run)
    for number in (4, 5):
        shutil.copytree(days[number], log / days[number].name)
    second, third = catch_up(run)
    assert [r.kind for r in (first, second, third)] == ["full", "incremental", "full"]
    assert [r.result["version"] for r in (first, second, third)] == [1, 2, 3]
    rows = [read_json(Path(r.folders["prepare"]) / "data.json")["train"]["rows"] for r in (first, second)]
    assert rows[1] < rows[0]
    shared = parts(second) & parts(first)
    assert len(shared) == 3  # of its four days, by inode: those that are not new
    low, high = third.cost["cost"]["auc"][1:]
    assert np.isfinite([low, high]).all()
    assert third.cost["rows"]["warm"] < third.cost["rows"]["full"]
    grown = [read_ids(r) for r in (first, second)]
    assert grown[1][: len(grown[0])] == grown[0]


def parts(record):
    root = Path(record.folders["prepare"]).parent / "parts"
    return {os.stat(path / "_manifest.json").st_ino for path in root.glob("part-*")}


def read_ids(record):
    from recdistill.data.encoder import Encoder

    return Encoder.open(Path(record.folders["prepare"]) / "encoder").tables["item_id"].values.to_pylist()

"""What cleaning lists and removes: never champion, challenger, shadow, reference, the last three champions, or a run
at work."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from recdistill.files import whole_folder, write_json
from recdistill.promotion.registry import open_registry
from recdistill.retention.clean import clean
from recdistill.retention.folders import old_folders

LATER = time.time() + 100 * 86_400
STEPS = ("prepare", "distil", "publish")


def lineage(run, name: str, version: int | None, *, reads: bool = True) -> list[Path]:
    """The folders of one finished run: prepare <- distil <- publish."""
    made: list[Path] = []
    for step in STEPS:
        about = {"step": step, "key": name} | ({"reads": [path.name for path in made]} if reads else {})
        with whole_folder(Path(run.folder) / f"{step}-{name}", about) as out:
            if step == "publish":
                write_json(out / "published.json", {"model": run.model, "version": version or 0})
        made.append(Path(run.folder) / f"{step}-{name}")
    return made


def registered(run, tmp_path, count: int):
    """A registry with so many versions, each with a bundle of its own."""
    registry = open_registry(run)
    experiment = registry.client.create_experiment(run.experiment, artifact_location=(tmp_path / "artifacts").as_uri())
    for number in range(1, count + 1):
        made = registry.client.create_run(experiment)
        registry.client.log_text(made.info.run_id, "weights", "bundle/student.onnx")
        registry.client.set_terminated(made.info.run_id)
        registry.register(f"{made.info.artifact_uri}/bundle", made.info.run_id, {"bundle_sha256": str(number)})
    return registry


def asked(run, **given):
    return clean(run, **{"days": 30, "keep": 1, "delete": False, "now": LATER} | given)


@pytest.mark.usefixtures("mlflow_uri")
def test_only_what_nothing_needs_goes_and_nothing_without_asking(tiny_run, tmp_path):
    run = tiny_run()
    registry = registered(run, tmp_path, 9)
    for number in (1, 2, 3, 4):
        registry.promote(number, why="test", key=f"promote-{number}")
    registry.promote(6, why="test", key="challenger", to="challenger")
    registry.client.set_registered_model_alias(run.model, "reference", "7")
    folders = {number: lineage(run, f"r{number}", number) for number in range(1, 10)}

    listed = asked(run)
    assert listed["versions"] == [1, 5, 8]
    assert set(listed["protected"]) == {"2", "3", "4", "6", "7"}
    gone = {path for number in (1, 5, 8) for path in map(str, folders[number])}
    assert {folder["path"] for folder in listed["folders"]} == gone
    assert all(Path(path).is_dir() for path in gone)
    assert asked(run, now=time.time())["folders"] == []

    assert asked(run, delete=True)["versions"] == [1, 5, 8]
    left = {int(version.version) for version in registry.client.search_model_versions(f"name='{run.model}'")}
    assert left == {2, 3, 4, 6, 7, 9}
    assert not any(Path(path).exists() for path in gone)
    assert all(path.is_dir() for number in left for path in folders[number])
    assert len(list((tmp_path / "artifacts").rglob("student.onnx"))) == 6
    assert registry.rollback(why="test").version == 3
    again = asked(run, delete=True)
    assert (again["folders"], again["versions"]) == ([], [])


def test_folders_whose_making_was_not_recorded_stay_with_what_is_protected(tiny_run):
    run = tiny_run()
    old = lineage(run, "old", 1, reads=False)
    assert old_folders(run, {1}, keep=1, days=1, now=LATER) == []
    new = lineage(run, "new", 2)
    assert old_folders(run, {2}, keep=1, days=1, now=LATER) == sorted(old)
    assert old_folders(run, {1, 2}, keep=1, days=1, now=LATER) == []
    assert all(path.is_dir() for path in new)


def test_a_run_at_work_keeps_all_its_folders_and_a_killed_one_does_not(tiny_run):
    run = tiny_run()
    lineage(run, "a", 1)
    lineage(run, "b", 2)
    program = "import sys, time; from pathlib import Path; from recdistill.files import only_one\n"
    program += "with only_one(Path(sys.argv[1])): print('at work', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", program, run.folder], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "at work\n"
        assert old_folders(run, (), keep=1, days=1, now=LATER) == []
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert len(old_folders(run, (), keep=1, days=1, now=LATER)) == len(STEPS)

"""Files and folders that are whole or absent, whatever happens on the way."""

import json
import subprocess
import sys

import pytest

from recdistill import files
from recdistill.problems import BadInput


def fill(folder, **texts):
    """A finished folder with these files."""
    with files.whole_folder(folder, {"key": "k"}) as out:
        (out / "sub").mkdir()
        for name, text in texts.items():
            (out / "sub" / name).write_text(text)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_digest_depends_on_values_not_on_the_order_of_keys():
    assert files.digest({"a": 1, "b": [1, 2]}) == files.digest({"b": [1, 2], "a": 1})
    different = [{"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, [1, 2], [2, 1], None, ""]
    assert len({files.digest(value) for value in different}) == len(different)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_refused_and_the_old_file_stays(tmp_path, value):
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"x": value})
    assert files.read_json(path) == {"x": 1}
    assert names(tmp_path) == ["a.json"]


def test_a_folder_appears_whole_with_its_manifest(tmp_path):
    final = tmp_path / "step"
    with files.whole_folder(final, {"key": "k"}) as out:
        (out / "a.txt").write_text("one")
        assert not final.exists()
    about = files.manifest(final)
    assert about["key"] == "k"
    assert about["files"] == {"a.txt": {"size": 3, "sha256": files.file_digest(final / "a.txt")}}
    assert files.damage(final) == []
    assert names(tmp_path) == ["step"]


@pytest.mark.parametrize("end", [RuntimeError, KeyboardInterrupt])
def test_a_folder_that_fails_on_the_way_leaves_nothing(tmp_path, end):
    def fail():
        with files.whole_folder(tmp_path / "step", {}) as out:
            (out / "a.txt").write_text("half")
            raise end

    with pytest.raises(end):
        fail()
    assert names(tmp_path) == []


def test_a_failed_second_attempt_leaves_the_first_result(tmp_path):
    final = fill(tmp_path / "step", a="first")

    def fail():
        with files.whole_folder(final, {}) as out:
            (out / "a").write_text("second")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert files.damage(final) == []
    assert (final / "sub/a").read_text() == "first"


def test_a_second_result_replaces_the_first_wholly(tmp_path):
    fill(tmp_path / "step", a="first", b="first")
    fill(tmp_path / "step", a="second")
    assert names(tmp_path / "step/sub") == ["a"]
    assert files.damage(tmp_path / "step") == []


def test_a_process_that_dies_leaves_only_what_sweep_removes(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from recdistill.files import whole_folder\n"
        "with whole_folder(Path(sys.argv[1]), {}) as out:\n"
        "    (out / 'a').write_text('half'); os._exit(9)"
    )
    dead = subprocess.run([sys.executable, "-c", code, str(tmp_path / "step")], timeout=60)
    assert dead.returncode == 9
    assert files.manifest(tmp_path / "step") is None
    assert len(names(tmp_path)) == 1
    fill(tmp_path / "other", a="whole")
    files.sweep(tmp_path)
    assert names(tmp_path) == ["other"]


def test_damage_names_what_is_missing_new_and_changed(tmp_path):
    folder = fill(tmp_path / "step", gone="1", changed="same size", fine="3")
    (folder / "sub/gone").unlink()
    (folder / "sub/changed").write_text("emas size")
    (folder / "new").write_text("")
    lines = files.damage(folder)
    assert len(lines) == 3
    for name, word in (("sub/gone", "missing"), ("new", "not in the manifest"), ("sub/changed", "content")):
        assert [line for line in lines if str(folder / name) in line and word in line], (name, lines)


def test_a_folder_without_a_manifest_was_never_finished(tmp_path):
    assert files.manifest(tmp_path) is None
    assert "never finished" in files.damage(tmp_path)[0]


def test_a_manifest_deeper_down_is_a_file_like_any_other(tmp_path):
    with files.whole_folder(tmp_path / "outer", {}) as out:
        fill(out / "inner", a="1")
    inner = tmp_path / "outer/inner" / files.MANIFEST
    assert f"inner/{files.MANIFEST}" in files.manifest(tmp_path / "outer")["files"]
    inner.write_text(json.dumps({"files": {}}))
    assert len(files.damage(tmp_path / "outer")) == 1


def test_only_one_holds_a_root_and_its_end_frees_it(tmp_path):
    root = tmp_path / "run"
    with files.only_one(root), pytest.raises(BadInput, match="wanted to be the only run there"), files.only_one(root):
        pass
    with files.only_one(root):
        pass

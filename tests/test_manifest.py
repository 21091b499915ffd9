"""What was listed is what is read: sha256 of a folder's manifest and of one of ours, flipped bits, changed files."""

import json
import random
import shutil
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from conftest import log_table, the_line, write_log

from recdistill.cli import main as cli
from recdistill.data.log import manifest
from recdistill.data.log.listing import open_log
from recdistill.data.log.read import batches, read_groups, tables
from recdistill.files import MANIFEST, whole_folder, write_json
from recdistill.problems import BadInput

COLUMNS = ["user_id", "item_id", "categories", "country", "price", "timestamp", "clicked"]


def problems(source, **options):
    with pytest.raises(BadInput) as caught:
        open_log(str(source), **options)
    assert caught.value.problems
    return caught.value.problems


def rows(log, columns=COLUMNS):
    return pa.Table.from_batches([batch for _, _, batch in batches(log, columns)])


def outcome(source):
    """The rows of a log; None where it is refused in lines, each of one line."""
    try:
        return rows(open_log(str(source)))
    except BadInput as error:
        return None if error.problems and not any("\n" in line for line in error.problems) else error


@pytest.fixture
def finished(tmp_path):
    """A folder with a manifest of its own, written without page checksums."""
    with whole_folder(tmp_path / "log", {"made_by": "a test"}) as out:
        for name in ("day=1/a.parquet", "day=2/a.parquet"):
            (out / name).parent.mkdir()
            pq.write_table(log_table(300, seed=len(name)), out / name, row_group_size=100)
    return tmp_path / "log"


def flips(path, count=200):
    """The file with one bit flipped, at seeded places all over it: (place, place of the footer, bytes)."""
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    generator = random.Random(7)
    for _ in range(count):
        place = generator.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << generator.randrange(8)
        yield place, footer, bytes(damaged)


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_no_flipped_bit_is_silent_where_pages_have_checksums(tmp_path, compression):
    """A flip in the footer may be harmless (statistics) or show as a type; it never changes a value."""
    table = log_table(300)
    write_log(tmp_path, {"a.parquet": table}, compression=compression, row_group_size=100)
    wanted, refused = table.select(COLUMNS), 0
    for place, footer, damaged in flips(tmp_path / "a.parquet"):
        (tmp_path / "a.parquet").write_bytes(damaged)
        found = outcome(tmp_path)
        refused += found is None
        assert found is None or found.equals(wanted) or (place >= footer and found.schema != wanted.schema), place
    assert refused >= 100


def test_no_flipped_bit_is_silent_where_the_folder_has_a_manifest(finished):
    path, seen = finished / "day=2/a.parquet", 0
    for _, _, damaged in flips(path):
        path.write_bytes(damaged)
        line = problems(finished)[0]
        assert line.startswith(f"{path}: wanted ")
        seen += "as in the manifest, found" in line
    assert seen >= 100


def test_without_either_a_flipped_bit_is_silent(tmp_path):
    """Why there are manifests: this is what the two tests above are for."""
    table = log_table(300)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    silent = 0
    for _, _, damaged in flips(tmp_path / "a.parquet", 60):
        (tmp_path / "a.parquet").write_bytes(damaged)
        found = outcome(tmp_path)
        silent += found is not None and not found.equals(table.select(COLUMNS))
    assert silent > 10


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_every_truncation_is_refused(tmp_path, form):
    path = tmp_path / f"a.{form}"
    (pq.write_table if form == "parquet" else feather.write_feather)(log_table(300), path)
    whole, generator = path.read_bytes(), random.Random(7)
    for _ in range(60):
        path.write_bytes(whole[: generator.randrange(len(whole))])
        (line,) = problems(tmp_path)
        assert line.startswith(f"{path}: wanted a")


def test_a_folder_that_is_not_what_its_manifest_lists_is_told_file_by_file(finished):
    (finished / "day=1/a.parquet").unlink()
    write_log(finished, {"day=3/a.parquet": log_table(3)})
    lines = problems(finished)
    assert len(lines) == 2
    assert "found no such file" in the_line(lines, "day=1/a.parquet")
    assert "found one that it does not" in the_line(lines, "day=3/a.parquet")
    (finished / MANIFEST).unlink()
    assert len(open_log(str(finished)).files) == 2


def test_a_single_file_and_a_glob_are_held_against_the_manifest_too(tmp_path):
    with whole_folder(tmp_path / "log", {}) as out:
        for name in "ab":
            pq.write_table(log_table(300), out / f"{name}.parquet")
    good = (tmp_path / "log/a.parquet").read_bytes()
    assert len(open_log(f"{tmp_path}/log/a.par*").files) == 1
    (tmp_path / "log/a.parquet").write_bytes(good[:300] + bytes([good[300] ^ 1]) + good[301:])
    for source in ("log/a.parquet", "log/*.parquet"):
        the_line(problems(tmp_path / source), "a.parquet: wanted sha256")
    assert len(open_log(f"{tmp_path}/log/b.parquet").files) == 1


@pytest.mark.parametrize(("text", "fine"), [("{}", True), ("[1]", True), ('{"files": {"a": {"sha256"', False)])
def test_a_manifest_of_somebody_else_is_none_and_a_broken_one_is_told(finished, text, fine):
    (finished / MANIFEST).write_text(text)
    if fine:
        assert len(open_log(str(finished)).files) == 2
    else:
        the_line(problems(finished), f"{MANIFEST}: wanted a manifest")


def test_files_that_come_and_go_during_a_scan_are_not_seen(tmp_path):
    folder = write_log(tmp_path / "log", {f"{n}.parquet": log_table(200, seed=n) for n in range(10, 20)})
    wanted = rows(open_log(str(folder)))
    stop, made = threading.Event(), []

    def disturb():
        while not stop.is_set():
            for name in ("00.parquet", "15b.parquet", "99.parquet"):
                write_log(folder, {name: log_table(5)})
                (folder / name).unlink()
                made.append(name)

    log = open_log(str(folder))
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(5):
            assert rows(log).equals(wanted)
    finally:
        stop.set()
        thread.join()
    assert len(made) >= 3


def append(path):
    path.write_bytes(path.read_bytes() + b"more")


def replace(path):
    pq.write_table(log_table(300, seed=9), path.with_name("new"), write_page_checksum=True)
    path.with_name("new").replace(path)


@pytest.mark.parametrize("change", [append, replace, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_file_that_changes_after_it_was_listed_is_one_line(tmp_path, change, when):
    folder = write_log(tmp_path / "log", {"a.parquet": log_table(300), "b.parquet": log_table(300)})
    log = open_log(str(folder))
    path = folder / "b.parquet"
    scan = tables(log, ["price"], max_rows=100)
    places = [next(scan)[1] for _ in range(4 if when == "while" else 1)]
    assert places[-1] == 0
    change(path)
    with pytest.raises(BadInput) as caught:
        list(scan)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}: wanted readable rows, found ")
    assert "changed after the log was opened" in line or "no such file" in line
    with pytest.raises(BadInput, match="wanted readable rows"):
        read_groups(log, log.files[1], 0, 1, ["price"])


def test_a_file_that_changes_while_it_is_hashed_is_one_line(tmp_path, monkeypatch):
    write_log(tmp_path, {"a.parquet": log_table(30)})
    monkeypatch.setattr(manifest, "sha256_of", lambda filesystem, path: append(tmp_path / "a.parquet") or "0" * 64)
    assert "found one that changes while it is read" in the_line(problems(tmp_path), "a.parquet")


def test_the_other_files_of_a_log_are_still_read_when_one_has_gone(tmp_path):
    folder = write_log(tmp_path / "log", {"a.parquet": log_table(30), "b.parquet": log_table(30)})
    log = open_log(str(folder))
    (folder / "b.parquet").unlink()
    assert sum(len(table) for _, _, table in tables(log, ["price"], max_rows=100, files=log.files[:1])) == 30


@pytest.fixture
def config(tmp_path):
    """A config on a log of two days, as a file."""
    folder = write_log(tmp_path / "log", {f"day={n}/a.parquet": log_table(30, seed=n) for n in (1, 2)})
    path = tmp_path / "my.yaml"
    settings = {
        "name": "mine",
        "data": {"source": str(folder), "time": "timestamp", "user": "user_id", "label": {"column": "clicked"}},
        "features": {"ids": ["item_id"]},
    }
    path.write_text(json.dumps(settings))
    return path


def test_the_command_writes_a_manifest_that_pins_the_files(config, tmp_path, capsys, monkeypatch):
    folder, out = tmp_path / "log", tmp_path / "deep/manifest.json"
    monkeypatch.setattr(sys, "argv", ["recdistill", "manifest", str(config), str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    before = open_log(str(folder))
    assert f"2 files, 60 rows, fingerprint {before.fingerprint[:12]}" in capsys.readouterr().out
    write_log(folder, {"day=0/new.parquet": log_table(5)})
    assert open_log(str(folder)).num_rows == 65
    pinned = open_log(str(folder), manifest=str(out))
    assert pinned.fingerprint == before.fingerprint
    assert [file.name for file in pinned.files] == ["day=1/a.parquet", "day=2/a.parquet"]
    assert json.loads(out.read_text()) == pinned.to_json()


def test_a_pinned_log_may_lie_elsewhere_but_must_be_the_same(tmp_path):
    folder = write_log(tmp_path / "log", {f"{n}.parquet": log_table(30, seed=n) for n in (1, 2, 3)})
    write_json(tmp_path / "m.json", open_log(str(folder)).to_json())
    shutil.copytree(folder, tmp_path / "copy")
    pinned = open_log(str(tmp_path / "copy"), manifest=str(tmp_path / "m.json"))
    assert pinned.fingerprint == open_log(str(folder)).fingerprint
    (tmp_path / "copy/1.parquet").unlink()
    the_line(problems(tmp_path / "copy", manifest=str(tmp_path / "m.json")), "1.parquet", "found no such file")
    shutil.copy(folder / "2.parquet", tmp_path / "copy/1.parquet")
    line = the_line(problems(tmp_path / "copy", manifest=str(tmp_path / "m.json")), "1.parquet")
    assert "as in the manifest" in line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"made_by": "recdistill manifest", "format": "odd"}',
        '{"made_by": "recdistill manifest", "format": "csv"}',
    ],
)
def test_what_is_no_manifest_is_one_line(tmp_path, text):
    write_log(tmp_path, {"a.parquet": log_table(3)})
    (tmp_path / "m.json").write_text(text)
    assert "wanted a manifest" in the_line(problems(tmp_path, manifest=str(tmp_path / "m.json")), "m.json")
    the_line(problems(tmp_path, manifest=str(tmp_path / "none.json")), "none.json")

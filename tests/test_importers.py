"""What all importers share, seen through MovieLens: archives, malformed lines, partitions, order, the config."""

import gzip
import io
import random
import subprocess
import sys
import tarfile
import zipfile

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from recdistill.cli.main import app
from recdistill.config.load import load
from recdistill.data.importers import lines, partitions
from recdistill.data.importers.find import CONFIG, IMPORTERS, import_log
from recdistill.files import damage, manifest
from recdistill.problems import BadInput

OLD = {
    "ml-1m/ratings.dat": b"1::10::5::978300760\n1::20::3::978302109\n2::10::4::975628800\n2::30::1::978300760\n",
    "ml-1m/users.dat": b"1::F::1::10::48067\n2::M::56::16::70072-1234\n",
    "ml-1m/movies.dat": "10::Les Misérables: a film (1995)::Drama|Musical\n20::Untitled::Drama\n".encode("latin-1"),
    "ml-1m/README": b"text",
}
NEW = {
    "ml-25m/ratings.csv": b"userId,movieId,rating,timestamp\r\n1,296,4.5,1147880044\r\n2,7,0.5,789652009\r\n",
    "ml-25m/movies.csv": (
        'movieId,title,genres\n296,"Misérables, ""Les"" (1995) ",Drama|War\n7,Nothing known,(no genres listed)\n'
    ).encode(),
    "ml-25m/tags.csv": b"userId,movieId,tag,timestamp\n",
}


def unpacked(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def rows(out):
    """(partition, part, row) of everything that was written, in the order of the files."""
    files = sorted(out.rglob("*.parquet"))
    assert files
    return [(f.parent.name, f.name, row) for f in files for row in pq.ParquetFile(f).read().to_pylist()]


def problems_of(name, path, out):
    with pytest.raises(BadInput) as error:
        import_log(name, path, out)
    assert not out.exists()
    assert not list(out.parent.glob(".unfinished-*"))
    return error.value.problems


@pytest.mark.parametrize("pack", [unpacked, zipped, tarred])
def test_one_million_ratings_as_published(tmp_path, pack):
    out = tmp_path / "out"
    assert import_log("movielens", pack(tmp_path / "source", OLD), out) == 4
    found = rows(out)
    assert [(month, row["user_id"], row["movie_id"], row["rating"]) for month, _, row in found] == [
        ("month=2000-12", 2, 10, 4),
        ("month=2000-12", 1, 10, 5),
        ("month=2000-12", 2, 30, 1),
        ("month=2000-12", 1, 20, 3),
    ]
    first, *_, unknown, last = (row for _, _, row in found)
    assert first["timestamp"].isoformat() == "2000-12-01T00:00:00+00:00"
    assert (first["gender"], first["age"], first["occupation"], first["zip"]) == ("M", 56, 16, "70072-1234")
    assert (first["title"], first["year"]) == ("Les Misérables: a film (1995)", 1995)
    assert first["genres"] == ["Drama", "Musical"]
    assert (unknown["title"], unknown["year"], unknown["genres"]) == (None, None, None)
    assert (last["title"], last["year"], last["genres"]) == ("Untitled", None, ["Drama"])


@pytest.mark.parametrize("pack", [unpacked, zipped])
def test_the_later_ratings_as_published(tmp_path, pack):
    out = tmp_path / "out"
    assert import_log("movielens", pack(tmp_path / "source", NEW), out) == 2
    (early, _, one), (late, _, other) = rows(out)
    assert (early, late) == ("month=1995-01", "month=2006-05")
    assert (one["rating"], one["title"], one["year"], one["genres"]) == (0.5, "Nothing known", None, [])
    assert (other["rating"], other["title"], other["year"]) == (4.5, 'Misérables, "Les" (1995) ', 1995)
    assert other["timestamp"].isoformat() == "2006-05-17T15:34:04+00:00"


def test_the_config_and_the_manifest_of_an_import(tmp_path):
    out = tmp_path / "out"
    import_log("movielens", zipped(tmp_path / "ml-1m.zip", OLD), out)
    assert (out / CONFIG).read_text().startswith(f"# recdistill run {out}/{CONFIG}\n")
    run = load(out / CONFIG)
    assert (run.name, run.data.source, run.data.time) == ("movielens", str(out), "timestamp")
    assert (run.data.partition.column, run.data.partition.length) == ("month", "month")
    assert run.data.label.at_least == 4
    assert manifest(out)["made_by"] == "recdistill import movielens"
    assert damage(out) == []
    assert sorted(p.name for p in out.iterdir()) == ["_manifest.json", CONFIG, "month=2000-12"]


def test_an_import_replaces_an_import_and_nothing_else(tmp_path):
    out, source = tmp_path / "out", zipped(tmp_path / "ml-1m.zip", OLD)
    import_log("movielens", source, out)
    import_log("movielens", unpacked(tmp_path / "new", NEW), out)
    assert len(rows(out)) == 2
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("mine")
    for other in (mine, mine / "precious"):
        with pytest.raises(BadInput, match="an imported log, found something else; give a folder that does not"):
            import_log("movielens", source, other)
    assert (mine / "precious").read_text() == "mine"


def test_an_import_does_not_replace_its_own_source(tmp_path):
    out = tmp_path / "out"
    import_log("movielens", zipped(tmp_path / "ml-1m.zip", OLD), out)
    inside = zipped(out / "ml-25m.zip", NEW)
    with pytest.raises(BadInput, match="wanted a folder without the source"):
        import_log("movielens", inside, out)
    assert inside.exists()


def test_an_unknown_name_and_wrong_files_say_what_is_known_and_wanted(tmp_path):
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    assert problems_of("movielense", empty, out)[0].endswith("found 'movielense'; did you mean movielens?")
    assert all(name in problems_of("x", empty, out)[0] for name in IMPORTERS)
    assert "found nothing there" in problems_of("movielens", tmp_path / "absent", out)[0]
    assert len(IMPORTERS) == 7
    for name in IMPORTERS:
        assert "found no files; give the archive as published" in problems_of(name, empty, out)[0]
    partly = unpacked(tmp_path / "partly", {k: v for k, v in OLD.items() if k.endswith(("ratings.dat", "README"))})
    one, other = problems_of("movielens", partly, out)
    assert "one file users.dat, found README, ratings.dat" in one
    assert "one file movies.dat" in other
    twice = unpacked(tmp_path / "twice", {**NEW, "old/movies.csv": NEW["ml-25m/movies.csv"]})
    assert "movies.csv and " in problems_of("movielens", twice, out)[0]


def test_every_malformed_line_is_told(tmp_path):
    bad = {
        "ratings.csv": b"userId,movieId,rating,timestamp\n1,7,4.5,1147880044\n1,7,4.5\nx,7,4.5,1147880044\n\n"
        b"1,,4.5,1147880044\n1,7,4.5,1147880044000\n1,7,nan,1\n99999999999999999999,7,1,1\n",
        "movies.csv": b'movieId,title,genres\n7,One,Drama\n8,"Two,Drama\n9,Tw\xffo,Drama\n7,Again,Drama\n',
    }
    source = unpacked(tmp_path / "source", bad)
    found = problems_of("movielens", source, tmp_path / "out")
    movies, ratings = source / "movies.csv", source / "ratings.csv"
    wanted = [
        f"{movies}: line 3: wanted a readable line (unexpected end of data)",
        f"{movies}: line 4: wanted text in utf-8",
        f"{ratings}: line 3: wanted 4 fields parted by ',', found 3 in '1,7,4.5'; mend or drop the line",
        f"{ratings}: line 4: wanted userId: a whole number of 64 bits, found 'x'; mend or drop the line",
        f"{ratings}: line 5: wanted 4 fields",
        f"{ratings}: line 6: wanted movieId: a value, found ''",
        f"{ratings}: line 8: wanted rating: a number, found 'nan'",
        f"{ratings}: line 9: wanted userId: a whole number of 64 bits",
    ]
    assert len(found) == len(wanted)
    for line, start in zip(found, wanted, strict=True):
        assert line.startswith(start)


def test_times_of_another_unit_and_keys_that_stand_twice_are_told(tmp_path):
    bad = {
        "ratings.csv": b"userId,movieId,rating,timestamp\n1,7,4.5,1147880044\n1,7,4.5,1147880044000\n",
        "movies.csv": b"movieId,title,genres\n7,One,Drama\n7,Again,Drama\n",
    }
    twice, time = problems_of("movielens", unpacked(tmp_path / "source", bad), tmp_path / "out")
    assert "movies.csv: line 3: wanted every movie_id once, found 7 again" in twice
    assert "ratings.csv: line 3: wanted seconds: s since 1970 of the years 1900 to 2099, found 1147880044000" in time


def test_the_numbers_of_lines_hold_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 50)
    body = [f"{n},7,4.5,{1147880044 + n}" for n in range(100)]
    body[76] = "76,7,x,1147880044"
    text = "\n".join(["userId,movieId,rating,timestamp", *body])
    source = unpacked(tmp_path / "source", {**NEW, "ml-25m/ratings.csv": text.encode()})
    (line,) = problems_of("movielens", source, tmp_path / "out")
    assert "ratings.csv: line 78: wanted rating: a number, found 'x'" in line
    (source / "ml-25m/ratings.csv").write_text(text.replace(",x,", ",1,"))
    assert import_log("movielens", source, tmp_path / "out") == 100


@pytest.mark.parametrize(("column", "value"), [("rating", "nan"), ("rating", "inf"), ("userId", "0x1f")])
def test_what_is_no_number_in_these_logs_is_told(tmp_path, column, value):
    row = {"userId": "1", "movieId": "7", "rating": "4.5", "timestamp": "1147880044", column: value}
    text = f"{','.join(row)}\n1,7,4.5,1147880044\n{','.join(row.values())}\n"
    source = unpacked(tmp_path / "s", {**NEW, "ml-25m/ratings.csv": text.encode()})
    (line,) = problems_of("movielens", source, tmp_path / "out")
    assert f"ratings.csv: line 3: wanted {column}: a " in line
    assert f"found '{value}'" in line


def test_after_many_problems_it_stops(tmp_path):
    text = b"userId,movieId,rating,timestamp\n" + b"x,7,4.5,1\n" * 100
    found = problems_of("movielens", unpacked(tmp_path / "s", {**NEW, "ml-25m/ratings.csv": text}), tmp_path / "out")
    assert (len(found), found[-1]) == (21, "only the first 20 problems are listed")


def test_a_header_of_another_log_is_refused(tmp_path):
    files = {**NEW, "ml-25m/ratings.csv": b"user,item\n1,2\n"}
    (line,) = problems_of("movielens", unpacked(tmp_path / "s", files), tmp_path / "out")
    assert "line 1: wanted a header that names userId, movieId, rating, timestamp once each, found 'user,item'" in line


def test_no_rows_are_refused(tmp_path):
    files = {**NEW, "ml-25m/ratings.csv": b"userId,movieId,rating,timestamp\n"}
    (line,) = problems_of("movielens", unpacked(tmp_path / "s", files), tmp_path / "out")
    assert line.endswith("wanted rows, found none; give the log as its publisher ships it")


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["/etc/ratings.csv", "../ratings.csv", "a/../../ratings.csv"])
def test_archives_that_leave_their_folder_are_refused(tmp_path, pack, name):
    (line,) = problems_of("movielens", pack(tmp_path / "evil", {**NEW, name: b"x"}), tmp_path / "out")
    assert f"wanted names of files inside the archive, found '{name}'" in line


def test_damaged_archives_are_told(tmp_path):
    big = {**OLD, "ml-1m/ratings.dat": random.Random(0).randbytes(100_000)}
    whole = tarred(tmp_path / "whole.tar.gz", big).read_bytes()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    assert "cut.tar.gz: wanted" in problems_of("movielens", cut, tmp_path / "out")[0]
    broken = bytearray(zipped(tmp_path / "whole.zip", OLD).read_bytes())
    broken[60] ^= 0xFF
    (tmp_path / "broken.zip").write_bytes(broken)
    assert (
        "broken.zip: ml-1m/ratings.dat: wanted readable bytes to the end"
        in problems_of("movielens", tmp_path / "broken.zip", tmp_path / "out")[0]
    )
    half = unpacked(tmp_path / "half", {n: b for n, b in OLD.items() if "ratings" not in n})
    (half / "ratings.dat.gz").write_bytes(gzip.compress(OLD["ml-1m/ratings.dat"])[:-9])
    assert "Compressed file ended before" in problems_of("movielens", half, tmp_path / "out")[0]
    long = b"".join(b"1::10::5::%d\n" % n for n in range(100_000))
    (half / "ratings.dat.gz").write_bytes(gzip.compress(long)[:-9])
    assert "ratings.dat.gz: wanted readable bytes to the end" in problems_of("movielens", half, tmp_path / "out")[0]


def test_rows_in_any_order_come_out_sorted_whatever_is_spilled_and_parted(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 2_000)
    monkeypatch.setattr(partitions, "SPILL_BYTES", 10_000)
    monkeypatch.setattr(partitions, "ROWS_PER_PART", 300)
    monkeypatch.setattr(partitions, "_ROWS_PER_GROUP", 100)
    shuffled = random.Random(1)
    times = [shuffled.randrange(978_000_000, 988_000_000, 50_000) for _ in range(3_000)]
    text = "".join(f"{n}::10::5::{time}\n" for n, time in enumerate(times))
    out = tmp_path / "out"
    import_log("movielens", unpacked(tmp_path / "s", {**OLD, "ml-1m/ratings.dat": text.encode()}), out)
    found = rows(out)
    assert {name for _, name, _ in found} == {"part-0.parquet", "part-1.parquet", "part-2.parquet"}
    got = [(row["timestamp"].timestamp(), row["user_id"]) for _, _, row in found]
    assert got == sorted((time, n) for n, time in enumerate(times))  # equal instants keep the order of the file
    assert all(row["timestamp"].strftime("month=%Y-%m") == month for month, _, row in found)
    assert not (out / "_spill").exists()


def test_the_command_says_rows_and_the_next_command(tmp_path):
    source, out = zipped(tmp_path / "ml-1m.zip", OLD), tmp_path / "out"
    done = CliRunner().invoke(app, ["import", "movielens", str(source), str(out)])
    assert (done.exit_code, done.output) == (0, f"{out}: 4 rows; recdistill check {out}/{CONFIG}\n")


MEASURE = """
import resource, sys
from pathlib import Path
from recdistill.data.importers import lines, partitions
from recdistill.data.importers.find import import_log
lines.BLOCK_BYTES, partitions.SPILL_BYTES = 1 << 18, 1 << 20
import_log("criteo-kaggle", Path(sys.argv[1]), Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_ten_times_the_rows_do_not_take_ten_times_the_memory(tmp_path):
    line = "1\t" + "\t".join(map(str, range(13))) + "\t68fd1e64" * 26 + "\n"
    kilobytes = []
    for rows_of in (10_000, 100_000):
        source = tmp_path / f"{rows_of}" / "train.txt"
        source.parent.mkdir()
        source.write_text(line * rows_of)
        command = [sys.executable, "-c", MEASURE, str(source), str(tmp_path / f"out-{rows_of}")]
        kilobytes.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    assert kilobytes[1] < 1.5 * kilobytes[0]

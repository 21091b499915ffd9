"""The page of real runs: what stands on it, when it is written again, and how a real Chromium shows it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from browser import CHROMIUM, browser
from conftest import make_run

from recdistill import api
from recdistill.files import read_json
from recdistill.pipeline import run_all
from recdistill.problems import BadInput
from recdistill.promotion.registry import open_registry
from recdistill.report.write import REPORT, report_link

pytestmark = pytest.mark.slow

LENIENT = {"floors": {"auc": 0.3}, "control_margin": -1.0, "max_ece": 1.0, "max_parameter_share": 1.0}
FIRST = {"gates": {**LENIENT, "champion_margin": 1.0}, "student": {"seeds": 1}}
SECOND = {
    "gates": {**LENIENT, "champion_margin": 0.0, "slices": ["new_users", "tail", "country"], "slice_margin": 1.0},
    "recipe": {"terms": [{"use": "label.bce", "weight": 0.5}, {"use": "list.clid", "weight": 0.5}]},
    "data": {"start": "2026-01-02T00:00:00"},
    "student": {"seeds": 1, "width": 1, "tower": [2]},
}
NAMES = [
    "Gates",
    "Teacher, control, student, champion",
    "Popularity",
    "Learning",
    "Bytes and latency",
    "Drift",
    "Lineage",
]


@pytest.fixture(scope="module")
def world(tiny_log, _migrated, tmp_path_factory):
    """(root, done of a champion's run, done of a run that it beats), the pages kept as first.html and second.html."""
    root = tmp_path_factory.mktemp("pages")
    shutil.copy(_migrated, root / "mlflow.db")
    done = []
    for name, settings in (("first", FIRST), ("second", SECOND)):
        run = make_run(tiny_log, root, **settings)
        done.append(run_all(run))
        shutil.copy(Path(run.folder) / REPORT, root / f"{name}.html")
    return root, *done


def page(world, which: str) -> str:
    return (world[0] / f"{which}.html").read_text()


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_verdict_stands_first_with_its_reasons(world):
    first, second = text_of(page(world, "first")), page(world, "second")
    assert "PASS tiny-student version 1 passed its gates." in first
    heading = re.search(r'<h1 id="verdict" class="FAIL">.*?</h1>', second, re.DOTALL)
    assert heading
    assert "tiny-student version 2 may not become champion" in text_of(heading[0])
    reasons = [text_of(line).strip() for line in re.findall(r'<p class="reason">.*?</p>', second)]
    failed = [
        gate for gate in read_json(world[2].folders["decide"] / "decision.json")["gates"] if gate["verdict"] == "FAIL"
    ]
    assert failed
    assert len(reasons) == len(failed)
    assert second.index("</h1>") < second.index('class="reason"') < second.index("<h2")


def test_every_section_is_there_and_those_about_a_champion_only_where_there_was_one(world):
    for which in ("first", "second"):
        found = re.findall(r"<h2 id=\"[^\"]+\">([^<]+)</h2>", page(world, which))
        assert [name for name in NAMES if name not in found] == []
        linked = re.findall(r'<a href="#([^"]+)">', page(world, which))
        assert linked == re.findall(r'<h2 id="([^"]+)">', page(world, which))
        since = [name for name in found if name.startswith("Since the champion")]
        assert since == (["Since the champion, version 1"] if which == "second" else [])
        assert ("Slices" in found) == (which == "second")


def test_the_figures_are_those_of_the_step_folders(world):
    text = text_of(page(world, "second"))
    report = read_json(world[2].folders["evaluate"] / "report.json")
    for model in ("teacher", "student", "control", "shipped"):
        value, low, high = report["models"][model]["auc"]
        assert f"{value:.4f} ({low:.4f} to {high:.4f})" in text, model
    value, low, high = read_json(world[2].folders["decide"] / "decision.json")["champion"]["value"]
    assert f"champion (v1) {value:.4f} ({low:.4f} to {high:.4f})" in page(world, "second")
    assert read_json(world[2].folders["prepare"] / "data.json")["fingerprint"] in text
    assert read_json(world[2].folders["export"] / "export.json")["bundle_sha256"] in text


def test_what_changed_since_the_champion_names_settings_and_data(world):
    section = page(world, "second").split('id="changes"')[1].split("<h2")[0]
    rows = [text_of(row).split() for row in re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)]
    names = [row[0] for row in rows if row]
    assert {"recipe.terms", "data.start", "student.width", "student.tower", "auc"} <= set(names)
    assert "teacher.width" not in names
    assert "fingerprint" not in names  # the same log, another window
    assert any(row[:2] == ["window", "start"] for row in rows)


def test_the_page_needs_nothing_else_and_is_sound(world):
    for which in ("first", "second"):
        text = page(world, which)
        assert len(text.encode()) < 2_000_000
        assert not re.search(r"<script|<link(?! rel=\"icon\" href=\"data:,\")|<iframe|<img|@import|url\((?!#)", text)
        assert [a for a in re.findall(r'(?:src|href)="([^"]*)"', text) if not a.startswith(("#", "data:,"))] == []
        ids = re.findall(r'\sid="([^"]+)"', text)
        assert len(ids) == len(set(ids)) > 100
        pictures = re.findall(r'<svg role="img" aria-label="([^"]*)"', text)
        assert len(pictures) == text.count("<svg") >= 9
        assert all(len(words) > 20 for words in pictures)


def test_the_page_is_beside_the_run_in_mlflow(world, tiny_log, tmp_path):
    run = make_run(tiny_log, world[0], **SECOND)
    run_id = read_json(world[2].folders["publish"] / "published.json")["run_id"]
    found = open_registry(run).client.download_artifacts(run_id, REPORT, str(tmp_path))
    assert Path(found).read_text() == page(world, "second")
    assert report_link(run, world[2].folders) == (Path(run.folder) / REPORT).as_uri()


@pytest.fixture
def again(world, tiny_log):
    """The world's second run, its page as it was made; restored afterwards."""
    run = make_run(tiny_log, world[0], **SECOND)
    yield run, Path(run.folder) / REPORT
    shutil.copy(world[0] / "second.html", Path(run.folder) / REPORT)


def test_a_page_is_written_again_where_it_is_gone_or_about_another_run_and_only_then(again, tiny_log, world):
    run, path = again
    path.unlink()
    assert run_all(run).did == ()
    assert "version 2" in path.read_text()[:1000]
    written = path.stat().st_mtime_ns
    run_all(run)
    assert path.stat().st_mtime_ns == written
    run_all(make_run(tiny_log, world[0], **FIRST))
    assert "version 1" in path.read_text()[:1000]


def test_a_tracking_store_that_is_away_leaves_the_page_and_the_run(again, monkeypatch, caplog):
    run, path = again
    path.unlink()
    monkeypatch.setattr("recdistill.report.write.open_registry", _away)
    monkeypatch.setattr("recdistill.report.changes.open_registry", _away)
    run_all(run)
    assert "It could not be read: no store" in path.read_text()
    assert "recdistill report" in caplog.text


def _away(run):
    raise BadInput("no store")


def test_the_command_writes_it_again_and_refuses_a_run_that_is_not_finished(again, call, tmp_path):
    run, path = again
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(run.model_dump(mode="json", exclude_unset=True)))
    path.unlink()
    status, out, err = call("report", config, "--quiet")
    assert (status, out.strip()) == (0, str(path)), err
    assert "version 2" in path.read_text()[:1000]
    status, out, err = call("report", config, f"root={tmp_path}/fresh", "--quiet")
    assert (status, out) == (2, "")
    assert "wanted a finished run, found prepare still to be done" in err
    assert not list(tmp_path.glob("fresh/*-*"))


def test_frames_hold_what_the_files_and_mlflow_do(world, tiny_log):
    second = world[2]
    run = make_run(tiny_log, world[0], **SECOND)
    report = read_json(second.folders["evaluate"] / "report.json")
    metrics = api.metrics_frame(second)
    assert metrics.loc[("student", "auc")].tolist() == report["models"]["student"]["auc"]
    assert metrics.loc[("gain", "auc"), "value"] == report["gain"]["auc"][0]
    assert "FAIL" in set(api.gates_frame(second)["verdict"])
    runs = api.runs_frame(run)
    assert runs["version"].dropna().tolist() == ["2", "1"]
    assert runs["verdict"].tolist() == ["FAIL", "PASS"]
    assert runs["student.auc"].iloc[0] == pytest.approx(report["models"]["student"]["auc"][0])
    curves = api.curves_frame(run, runs.index[0])
    assert set(curves["model"]) == {"teacher", "student", "control"}
    checks = read_json(second.folders["train_teacher"] / "teacher.json")["curve"]
    of_teacher = curves[(curves["model"] == "teacher") & (curves["metric"] == "valid_auc")]
    assert of_teacher["value"].tolist() == pytest.approx([check["valid_auc"] for check in checks])
    history = api.history_frame(run)
    assert history[["action", "version"]].to_numpy().tolist() == [["promote", 1]]
    assert api.do(run, until="evaluate").folders["evaluate"] == second.folders["evaluate"]
    with pytest.raises(BadInput, match="did you mean evaluate"):
        api.do(run, until="evalute")


# a real browser

in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")


@pytest.fixture(scope="module")
def tab():
    with browser() as opened:
        yield opened


@in_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (375, 667)], ids=["desktop", "phone"])
@pytest.mark.parametrize("which", ["first", "second"])
def test_a_browser_shows_the_verdict_at_once_without_errors_or_network(
    world, tab, tmp_path, which, width, height, scheme
):
    file = world[0] / f"{which}.html"
    tab.open(file, width=width, height=height, scheme=scheme)
    shown = tab.value(
        "(() => { const b = document.getElementById('verdict').getBoundingClientRect();"
        " return [document.getElementById('verdict').innerText, b.top, b.bottom, b.left, b.right,"
        " document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor]; })()"
    )
    words, top, bottom, left, right, page_width, ground = shown
    assert words.split()[0] == ("PASS" if which == "first" else "FAIL")
    assert 0 <= top < bottom <= height
    assert 0 <= left < right <= width
    assert page_width <= width  # wide tables scroll inside themselves
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 28)")
    assert [each["request"]["url"] for each in tab.params("Network.requestWillBeSent")] == [file.resolve().as_uri()]
    assert tab.params("Runtime.exceptionThrown") + tab.params("Log.entryAdded") == []
    assert tab.params("Runtime.consoleAPICalled") == []
    tab.picture(tmp_path / "page.png")
    assert drawn_share(tmp_path / "page.png") > 0.01


def drawn_share(path: Path) -> float:
    """The share of a PNG's pixels that differ from its first one, which is the ground."""
    from matplotlib.image import imread

    pixels = imread(path)[:, :, :3]
    return float(np.mean(np.abs(pixels - pixels[0, 0]).max(axis=-1) > 0.05))


@in_chromium
def test_every_plot_of_a_page_is_as_wide_as_a_phone_and_its_text_can_be_read(world, tab):
    tab.open(world[0] / "second.html", width=375, height=667)
    widths = tab.value("[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().width)")
    assert len(widths) >= 9
    assert all(300 <= width <= 375 for width in widths)
    heights = tab.value("[...document.querySelectorAll('figure text')].map(t => t.getBoundingClientRect().height)")
    assert min(heights) >= 9

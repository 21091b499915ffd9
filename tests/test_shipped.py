"""An earlier run's student picks candidates: as its bundle says of raw rows, by its own encoder; what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import make_run, the_line, write_log

from recdistill import score as module
from recdistill import shipped
from recdistill.bundle import open_bundle, shipped_bundle
from recdistill.config.features import Features
from recdistill.data.admit import dropped_rows
from recdistill.data.candidates import candidates_name, open_candidates
from recdistill.data.prepare import open_checked
from recdistill.data.requests import raw_requests
from recdistill.data.scores import open_scores
from recdistill.data.split import SPLITS
from recdistill.data.store import open_rows
from recdistill.files import whole_folder
from recdistill.pipeline import run_all
from recdistill.problems import BadInput
from recdistill.score import score
from recdistill.shipped import shipped_digest
from recdistill.train.students.earlier import newest
from recdistill.train.teachers.teacher import train_teacher

# Unlike the run: other columns in another order, no numbers, shorter histories, and a window that ends earlier.
FEATURES = {
    "ids": ["country", {"column": "categories", "max_values": 3}, "item_id"],
    "dense": [],
    "history": {"item": "item_id", "length": 4},
}
EARLIER = {"features": FEATURES, "data": {"end": "2026-01-05T00:00:00"}, "student": {"seeds": 1}, "seed": 7}
ITEM = ["categories", "price"]
EACH, POOL = 2, 12


@pytest.fixture(scope="module")
def earlier(tiny_log, tmp_path_factory) -> Path:
    """The folder of a run that shipped a student."""
    run = make_run(tiny_log, tmp_path_factory.mktemp("earlier"), **EARLIER)
    run_all(run, until="export")
    return Path(run.folder)


@pytest.fixture(scope="module")
def trained(tiny_log, tiny_prepared, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("teacher")
    with whole_folder(root / "train", {"key": "t" * 64}) as out:
        train_teacher(make_run(tiny_log, root), {"prepare": tiny_prepared}, out)
    return root / "train"


def run_with(log, root, student, by=("student_top",), **settings):
    asked = {"per_request": EACH, "by": list(by), "pool": POOL, "item_columns": ITEM, "student": str(student)}
    return make_run(log, root, score={"candidates": asked, **settings})


def scored(run, prepared, trained, folder):
    with whole_folder(folder, {"key": "s" * 64}) as out:
        score(run, {"prepare": prepared, "train_teacher": trained}, out)
    return folder


def by_bundle(run, prepared, bundle, rows, num):
    """[n] the bundle's logits of candidates as raw requests, the item's columns from the row that last had it."""
    theirs = run.model_copy(update={"features": bundle.encoder.features})
    log, dropped = open_checked(run), dropped_rows(prepared)
    windows = [open_rows(prepared, name) for name in SPLITS]
    everything = np.concatenate([window.records for window in windows])
    everything = everything[np.argsort(everything["time"], kind="stable")]
    place = next(f.start for f in windows[0].layout.pooled if f.name == "item_id")
    item = everything["ids"][:, place]
    last = [
        everything["row_id"][np.flatnonzero((item == which) & (everything["time"] < time))[-1]]
        for which, time in zip(rows["ids"][:, place], rows["time"], strict=True)
    ]
    request, shown = (
        raw_requests(theirs, log, number, dropped, bundle.encoder)
        for number in ((-1 - rows["row_id"]) // num, np.array(last))
    )
    for name in ("item_id", *ITEM):
        if name in request.schema.names:
            request = request.set_column(request.schema.get_field_index(name), name, shown.column(name))
    return bundle.score(request)


def pool_of(run, prepared, window):
    """All candidates of a window from which the best are taken, and how many a request has."""
    windows = [open_rows(prepared, name) for name in SPLITS]
    own = module.belonging(run, windows[0].layout)
    made = module.Pools(run, windows, windows[SPLITS.index(window)], module.Seen(windows, own.item), own)
    return made.of(0), made.num


@pytest.mark.parametrize("window", ["train", "test"])
def test_the_best_of_the_pool_are_those_that_its_bundle_ranks_highest(
    tiny_log, tiny_prepared, trained, earlier, tmp_path, window
):
    run = run_with(tiny_log, tmp_path, earlier)
    folder = scored(run, tiny_prepared, trained, tmp_path / "score")
    found = open_candidates(folder, window, tiny_prepared)
    pool, num = pool_of(run, tiny_prepared, window)
    requests = np.unique(found["request"])[:40]
    pool = pool.records[np.isin(pool["request"], requests)]
    bundle = open_bundle(shipped_bundle(newest(earlier, "export")))
    logit = by_bundle(run, tiny_prepared, bundle, pool, num)
    lists = 0
    for request in requests:
        here = np.flatnonzero(pool["request"] == request)
        kept = np.isin(pool["row_id"][here], found["row_id"])
        assert kept.sum() == min(EACH, len(here))
        if kept.all():
            continue
        assert logit[here][kept].min() >= logit[here][~kept].max() - 1e-5
        lists += logit[here].std() > 1e-3
    assert lists > 20
    stored = open_scores(folder, candidates_name(window), found, tiny_prepared)
    assert len(stored) == len(found)
    assert not list(folder.glob("seen-by-student*"))


def test_beside_the_teachers_best_and_random_ones_it_takes_its_own_next(
    tiny_log, tiny_prepared, trained, earlier, tmp_path
):
    kinds = ("teacher_top", "student_top", "random")
    run = run_with(tiny_log, tmp_path, earlier, kinds)
    together = open_candidates(scored(run, tiny_prepared, trained, tmp_path / "score"), "valid", tiny_prepared)
    _, sizes = np.unique(together["request"], return_counts=True)
    assert set(sizes) == {EACH * len(kinds)}
    place = next(f.start for f in together.layout.pooled if f.name == "item_id")

    def items(rows):
        return set(zip(rows["request"].tolist(), rows["ids"][:, place].tolist(), strict=True))

    assert len(items(together)) == len(together)
    for kind in ("teacher_top", "student_top"):
        asked = {"per_request": EACH, "by": kind, "pool": POOL, "item_columns": ITEM}
        asked |= {"student": str(earlier)} if kind == "student_top" else {}
        alone = make_run(tiny_log, tmp_path / kind, score={"candidates": asked})
        best = open_candidates(scored(alone, tiny_prepared, trained, tmp_path / kind / "score"), "valid", tiny_prepared)
        assert items(best) <= items(together)


def test_a_killed_pass_goes_on_and_another_student_begins_anew(
    tiny_log, tiny_prepared, trained, earlier, tmp_path, monkeypatch
):
    run = run_with(tiny_log, tmp_path, earlier, rows_per_segment=300)
    whole = scored(run, tiny_prepared, trained, tmp_path / "whole")
    written, write = [], module.write_segment

    def dies(folder, number, *given):
        if folder.name == "train-candidates" and number == 3:
            raise KeyboardInterrupt
        written.append(folder / f"{number:06d}.arrow")
        write(folder, number, *given)

    monkeypatch.setattr(module, "write_segment", dies)
    with pytest.raises(KeyboardInterrupt):
        scored(run, tiny_prepared, trained, tmp_path / "again")
    began = {path.relative_to(path.parent.parent): path.stat().st_ino for path in written}
    assert Path("train-candidates/000002.arrow") in began
    monkeypatch.setattr(module, "write_segment", write)
    again = scored(run, tiny_prepared, trained, tmp_path / "again")
    assert {path: (again / path).stat().st_ino for path in began} == began
    for path in sorted(whole.rglob("*-candidates/*")):
        assert (again / path.relative_to(whole)).read_bytes() == path.read_bytes()
    about = json.loads((again / "train-candidates/segments.json").read_text())
    assert about["student"] == shipped_digest(run)


def test_the_score_step_is_done_again_for_another_student_and_for_nothing_else(tiny_log, earlier, tmp_path):
    shutil.copytree(earlier, tmp_path / "earlier")
    run = run_with(tiny_log, tmp_path, tmp_path / "earlier")
    assert run_all(run, until="score").did == ("prepare", "train_teacher", "score")
    assert run_all(run, until="score").did == ()
    exported = newest(tmp_path / "earlier", "export") / "export.json"
    exported.write_text(exported.read_text().replace('"shipped": "student-0"', '"shipped": "control-0"'))
    assert run_all(run, until="score").did == ("score",)


def test_a_run_without_a_student_has_no_part_of_it(tiny_log, tmp_path):
    assert shipped_digest(make_run(tiny_log, tmp_path)) is None
    assert shipped_digest(make_run(tiny_log, tmp_path, score={"candidates": {"per_request": 3}})) is None


# What is refused.


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{by: student_top}", ("wanted student: the folder of an earlier run for by: student_top, found none",)),
        ("{by: [random, student_top]}", ("wanted student: the folder of an earlier run", "found none")),
        ("{student: runs/a}", ("wanted student_top in by for student: runs/a, found teacher_top", "or drop student")),
        ("{by: [random, popular, random]}", ("wanted each kind once in by, found random, popular, random",)),
        ("{by: best}", ("score.candidates.by.0", "'teacher_top', 'student_top', 'random' or 'popular'", "'best'")),
        ("{by: []}", ("score.candidates.by",)),
    ],
)
def test_settings_that_do_not_fit_are_one_line_and_status_2(tiny_log, tmp_path, call, settings, words):
    tree = {"per_request": 3, "item_columns": ITEM}
    run = make_run(tiny_log, tmp_path, score={"candidates": tree}).model_dump(mode="json", exclude_unset=True)
    (tmp_path / "run.yaml").write_text(json.dumps(run))
    candidates = settings.replace("{", "{per_request: 3, ", 1)
    status, _, said = call("check", tmp_path / "run.yaml", f"score.candidates={candidates}")
    assert status == 2
    assert len(said.splitlines()) == 1
    the_line(said.splitlines(), *words)


def refused(run):
    with pytest.raises(BadInput) as caught:
        run_all(run, until="score")
    (line,) = caught.value.problems
    return line


def test_a_folder_that_shipped_nothing_is_refused_and_so_is_the_runs_own(tiny_log, earlier, tmp_path):
    (tmp_path / "empty").mkdir()
    line = refused(run_with(tiny_log, tmp_path, tmp_path / "empty"))
    words = "wanted a run with a finished export step, found none; name the folder of such a run"
    assert line == f"score.candidates.student: {tmp_path / 'empty'}: {words}"
    own = run_with(tiny_log, tmp_path, tmp_path / "run")
    assert "wanted an earlier run, found this one; give this run another root" in refused(own)


def test_a_student_of_a_column_that_this_log_lacks_is_refused(tiny_log, earlier, tmp_path):
    lacking = tmp_path / "log"
    for path in sorted(tiny_log.rglob("*.parquet")):
        table = pq.read_table(path, partitioning=None).drop_columns("categories")
        write_log(lacking, {str(path.relative_to(tiny_log)): table})
    candidates = {"per_request": EACH, "by": "student_top", "student": str(earlier), "item_columns": ["price"]}
    features = {"ids": ["item_id", "country"]}
    line = refused(make_run(lacking, tmp_path, features=features, score={"candidates": candidates}))
    assert line.startswith(f"score.candidates.student: {earlier}: {lacking}: column categories: wanted such a column, ")
    assert line.endswith("; mend the config or the log")


def test_a_student_of_a_feature_of_item_and_request_together_is_refused(tiny_log, earlier, tmp_path, monkeypatch):
    def crossed(*given):
        bundle = open_bundle(*given)
        tree = bundle.encoder.features.model_dump()
        features = Features.model_validate({**tree, "ids": [*tree["ids"], {"cross": ["item_id", "country"]}]})
        return replace(bundle, encoder=replace(bundle.encoder, features=features))

    monkeypatch.setattr(shipped, "open_bundle", crossed)
    line = refused(run_with(tiny_log, tmp_path, earlier))
    assert line.startswith(f"score.candidates.student: {earlier}: score.candidates: item_id x country: wanted features")
    assert line.endswith("found both; leave it out, or do without score.candidates")

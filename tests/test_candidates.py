"""Candidates: items seen strictly before and not shown by the request, with the item's own features as last seen."""

import numpy as np
import pytest
from conftest import make_run

from recdistill.data.belonging import belonging
from recdistill.data.candidates import Pools, Seen
from recdistill.data.split import SPLITS
from recdistill.data.store import open_rows
from recdistill.problems import BadInput

ASKED = {"per_request": 5, "by": "random", "item_columns": ["categories", "price"]}


def pools(log, prepared, tmp_path, window="valid", **settings):
    run = make_run(log, tmp_path, score={"candidates": {**ASKED, **settings}})
    windows = [open_rows(prepared, name) for name in SPLITS]
    own = belonging(run, windows[0].layout)
    return Pools(run, windows, windows[SPLITS.index(window)], Seen(windows, own.item), own), windows, own


def every_record(windows):
    """All rows of all windows as plain dicts of arrays, in order of time."""
    records = np.concatenate([rows.records for rows in windows])
    return records[np.argsort(records["time"], kind="stable")]


@pytest.mark.parametrize("by", ["random", "popular", ["teacher_top", "popular", "random"]])
def test_a_candidate_was_seen_before_is_not_shown_and_carries_its_own_features(tiny_log, tiny_prepared, tmp_path, by):
    made, windows, own = pools(tiny_log, tiny_prepared, tmp_path, by=by)
    everything = every_record(windows)
    item = everything["ids"][:, own.item]
    found = made.of(0)
    assert len(found) > 200
    first = {}
    for record in windows[1].records:
        first.setdefault(int(record["request"]), record)
    names = [feature.name for feature in windows[0].layout.pooled for _ in range(feature.width)]
    theirs = sorted(own.ids)
    assert {names[place] for place in theirs} == {"item_id", "categories"}
    others = [place for place in range(found.records["ids"].shape[1]) if place not in theirs]
    assert {names[place] for place in others} == {"country"}
    for record in found.records[:: len(found) // 100]:
        base, which = first[int(record["request"])], record["ids"][own.item]
        shown = everything["ids"][everything["request"] == record["request"], own.item]
        assert which not in shown
        before = everything[(item == which) & (everything["time"] < base["time"])]
        assert len(before)
        assert (record["ids"][theirs] == before[-1]["ids"][theirs]).all()
        assert record["dense"][0] == before[-1]["dense"][0]
        assert (record["ids"][others] == base["ids"][others]).all()
        for name in ("user", "time"):
            assert record[name] == base[name]
        assert (record["past"] == base["past"]).all()
        assert record["label"] == record["offset"] == 0


def test_no_item_twice_in_a_request_and_as_many_as_asked_for(tiny_log, tiny_prepared, tmp_path):
    made, windows, own = pools(tiny_log, tiny_prepared, tmp_path)
    found = made.of(0)
    pairs = set(zip(found["request"].tolist(), found["ids"][:, own.item].tolist(), strict=True))
    assert len(pairs) == len(found)
    _, sizes = np.unique(found["request"], return_counts=True)
    assert len(sizes) == len(np.unique(windows[1]["request"]))
    assert set(sizes) == {5}
    assert len(np.unique(found["row_id"])) == len(found)
    assert found["row_id"].max() < 0


def test_the_same_candidates_in_segments_of_any_size(tiny_log, tiny_prepared, tmp_path):
    whole, windows, own = pools(tiny_log, tiny_prepared, tmp_path)
    run = make_run(tiny_log, tmp_path, score={"candidates": ASKED, "rows_per_segment": 70})
    parts = Pools(run, windows, windows[1], Seen(windows, own.item), own)
    assert len(parts) > 3
    together = np.concatenate([parts.of(number).records for number in range(len(parts))])
    assert (together == whole.of(0).records).all()
    assert max(len(parts.of(number)) for number in range(len(parts))) <= parts.most_rows <= 70


def test_popular_ones_are_seen_more_often_than_random_ones(tiny_log, tiny_prepared, tmp_path):
    means = {}
    for by in ("popular", "random"):
        made, windows, own = pools(tiny_log, tiny_prepared, tmp_path, by=by)
        counts = np.bincount(every_record(windows)["ids"][:, own.item])
        means[by] = counts[made.of(0)["ids"][:, own.item]].mean()
    assert means["popular"] > 1.1 * means["random"]


def test_the_first_request_has_none_as_nothing_was_seen_before(tiny_log, tiny_prepared, tmp_path):
    made, windows, _ = pools(tiny_log, tiny_prepared, tmp_path, window="train")
    earliest = windows[0].records[np.argmin(windows[0]["time"])]
    assert earliest["request"] not in made.of(0)["request"]


def test_the_best_are_the_highest_of_each_request(tiny_log, tiny_prepared, tmp_path):
    made, _, _ = pools(tiny_log, tiny_prepared, tmp_path, by="teacher_top", pool=12, per_request=2)
    pick = made.pick(0)
    rows = made.rows_of(pick)
    logit = np.random.default_rng(0).random(len(rows), dtype=np.float32)
    best = made.best(pick, logit)
    for request in np.unique(rows["request"])[:50]:
        here = np.flatnonzero(rows["request"] == request)
        assert set(best) & set(here) == set(here[np.argsort(-logit[here])[:2]])


def test_of_every_kind_as_many_as_asked_for_and_a_later_kind_takes_its_next(tiny_log, tiny_prepared, tmp_path):
    by = ["random", "student_top", "teacher_top", "popular"]
    made, _, _ = pools(tiny_log, tiny_prepared, tmp_path, by=by, pool=12, per_request=3, student="runs/a")
    pick = made.pick(0)
    generator = np.random.default_rng(0)
    teacher, student = generator.random((2, len(pick.which)), dtype=np.float32)
    best = set(made.best(pick, teacher, student))
    requests = np.unique(pick.base)[:50]
    assert len(requests) == 50
    for base in requests:
        here = np.flatnonzero(pick.base == base)
        popular, pool = here[:3], here[3:15]
        assert pick.popular[popular].all()
        assert pick.pooled[pool].all()
        assert len(here) == 3 + 12 + 3
        top = pool[np.argsort(-teacher[pool])[:3]]
        left = np.setdiff1d(pool, top)
        theirs = left[np.argsort(-student[left])[:3]]
        chance = here[15:]  # outside the pool, so that no best of it is missing from what chance could take
        assert best & set(here) == {*popular, *top, *theirs, *chance}


def test_where_items_are_few_the_random_ones_are_what_no_other_kind_took(tiny_log, tiny_prepared, tmp_path):
    made, _, own = pools(tiny_log, tiny_prepared, tmp_path, by=["teacher_top", "random"], pool=1000, per_request=3)
    pick = made.pick(0)
    assert pick.pooled.all()
    best = made.best(pick, np.random.default_rng(0).random(len(pick.which), dtype=np.float32))
    rows = made.rows_of(pick).records[best]
    assert set(np.unique(pick.base[best], return_counts=True)[1]) == {6}
    assert len(set(zip(rows["request"].tolist(), rows["ids"][:, own.item].tolist(), strict=True))) == len(rows)


@pytest.mark.parametrize(
    ("features", "settings", "words"),
    [
        ({"ids": ["item_id", {"cross": ["item_id", "country"]}]}, {}, "item_id x country: wanted features of the item"),
        ({"aggregates": [{"value": "count", "by": ["user_id", "item_id"]}]}, {}, "count_by_user_id_x_item_id"),
        ({}, {"item": "nothing"}, "score.candidates.item: wanted an id feature of one value a row, found nothing"),
        ({}, {"item": "categories"}, "wanted an id feature of one value a row, found categories"),
    ],
)
def test_a_feature_of_both_and_an_item_that_is_none_are_refused(
    tiny_log, tiny_prepared, tmp_path, features, settings, words
):
    base = make_run(tiny_log, tmp_path).model_dump(mode="json")["features"]
    run = make_run(tiny_log, tmp_path, features={**base, **features}, score={"candidates": {**ASKED, **settings}})
    with pytest.raises(BadInput, match=words):
        belonging(run, open_rows(tiny_prepared, "train").layout)

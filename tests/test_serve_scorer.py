"""The scorer answers as the bundle does for whole rows, however a request is laid out and whatever the student is."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import make_run
from hypothesis import given, settings
from hypothesis import strategies as st
from serve_world import ITEM, TYPES, columns, make_bundle, random_rows

from recdistill.bundle import open_bundle
from recdistill.config.student import Dcn, Fm, Table
from recdistill.data.encoder import Encoder
from recdistill.data.prepare import prepare
from recdistill.files import whole_folder
from recdistill.models.student import StudentModel
from recdistill.models.two_tower import TwoTowerModel
from recdistill.problems import BadInput
from recdistill.serve import Scorer
from recdistill.serve.scorer import NotFinite
from recdistill.ship.quantise import quantise

EXACT = 1e-6
RICH = {
    "ids": [
        "item_id",
        "country",
        {"column": "categories", "max_values": 2},
        {"column": "user_id", "hash_buckets": 64},
        {"cross": ["country", "item_id"], "hash_buckets": 97},
        {"calendar": "hour"},
        {"column": "price", "quantiles": 5, "name": "price_bin"},
    ],
    "dense": [{"column": "price", "transform": "log1p"}],
    "history": {"item": "item_id", "outcomes": ["clicked"], "length": 6},
}


@pytest.fixture(scope="module")
def bundle(tiny_prepared, tmp_path_factory):
    return make_bundle(tiny_prepared, tmp_path_factory.mktemp("bundle") / "student-0")


@pytest.fixture(scope="module")
def rich(tiny_log, tmp_path_factory):
    """A bundle with every kind of feature that a request can hold."""
    root = tmp_path_factory.mktemp("rich")
    with whole_folder(root / "prepare", {"step": "prepare", "key": "0"}) as out:
        prepare(make_run(tiny_log, root, features=RICH), {}, out)
    return make_bundle(root / "prepare", root / "student-0")


def whole_rows(folder, rows):
    """The bundle's own scores of whole rows."""
    opened = open_bundle(folder)
    schema = pa.schema([(name, TYPES[name]) for name in opened.encoder.needed])
    return opened.score(pa.Table.from_pylist(rows, schema=schema))


def of_one_user(names, num_rows, seed=0, item=ITEM):
    """(user, rows): rows that differ in the item's columns alone."""
    rows = random_rows(names, num_rows, seed)
    user = {name: value for name, value in rows[0].items() if name not in item}
    return user, [{**row, **user} for row in rows]


def item_table(rows):
    different = {row["item_id"]: {name: row[name] for name in ITEM} for row in rows}
    return pa.Table.from_pylist(list(different.values()), schema=pa.schema([(name, TYPES[name]) for name in ITEM]))


def test_columns_given_once_and_for_each_score_as_whole_rows(bundle):
    scorer = Scorer(bundle)
    for num_rows in (1, 2, 37):
        user, rows = of_one_user(scorer.encoder.needed, num_rows, seed=num_rows)
        found = scorer.score(user, candidates=columns(rows, ITEM))
        assert np.abs(found - whole_rows(bundle, rows)).max() < EXACT
    assert found.dtype == np.float32
    assert found.std() > 1e-3
    assert scorer.about["not_split"] == []


@settings(max_examples=25)
@given(st.data())
def test_any_column_may_be_the_users_or_the_candidates(rich, data):
    scorer = rich_scorer(rich)
    names = scorer.encoder.needed
    once = data.draw(st.sets(st.sampled_from(names), max_size=len(names) - 1))
    rows = random_rows(names, data.draw(st.integers(1, 5)), data.draw(st.integers(0, 99)))
    user = {name: rows[0][name] for name in once}
    rows = [{**row, **user} for row in rows]
    candidates = columns(rows, [name for name in names if name not in once])
    assert np.abs(scorer.score(user, candidates=candidates) - whole_rows(rich, rows)).max() < EXACT


_scorers = {}


def rich_scorer(folder):
    return _scorers.setdefault(folder, Scorer(folder))


def test_items_by_key_score_as_the_rows_that_the_table_makes_of_them(bundle):
    names = Encoder.open(bundle / "encoder").needed
    user, rows = of_one_user(names, 60, seed=3)
    table = item_table(rows)
    scorer = Scorer(bundle, items=table)
    by_key = {row["item_id"]: row for row in table.to_pylist()}
    keys = [row["item_id"] for row in rows] + [10**15, -(2**62), 129_999]
    nothing = {"categories": None, "price": None}
    wanted = whole_rows(bundle, [{**user, **by_key.get(key, {"item_id": key, **nothing})} for key in keys])
    assert np.abs(scorer.score(user, items=keys) - wanted).max() < EXACT
    assert np.abs(scorer.score(user, items=np.array(keys)) - wanted).max() < EXACT
    assert np.abs(scorer.score(user, candidates={"item_id": keys}) - wanted).max() < EXACT
    assert scorer.about["item_cache_bytes"] > 0
    assert scorer.about["num_items"] >= len(by_key)
    assert scorer.about["not_split"] == []


def test_what_a_request_says_of_an_item_counts_before_what_the_table_says(bundle):
    user, rows = of_one_user(Encoder.open(bundle / "encoder").needed, 20, seed=4)
    scorer = Scorer(bundle, items=item_table(rows))
    keys, dearer = [row["item_id"] for row in rows], [1000.0 + n for n in range(20)]
    table = {row["item_id"]: row for row in item_table(rows).to_pylist()}
    wanted = whole_rows(bundle, [{**user, **table[k], "price": p} for k, p in zip(keys, dearer, strict=True)])
    assert np.abs(scorer.score(user, items=keys, candidates={"price": dearer}) - wanted).max() < EXACT
    once = whole_rows(bundle, [{**user, **table[k], "price": 7.0} for k in keys])
    assert np.abs(scorer.score({**user, "price": 7.0}, items=keys) - once).max() < EXACT


def test_an_item_whose_key_is_hashed_scores_alike_whether_the_table_knows_it_or_not(tiny_log, tmp_path):
    features = {"ids": [{"column": "item_id", "hash_buckets": 50}, "country"], "dense": ["price"], "history": None}
    with whole_folder(tmp_path / "prepare", {"step": "prepare", "key": "0"}) as out:
        prepare(make_run(tiny_log, tmp_path, features=features), {}, out)
    folder = make_bundle(tmp_path / "prepare", tmp_path / "bundle")
    user, rows = of_one_user(["item_id", "country", "price"], 10, item=["item_id", "price"])
    known = pa.table({"item_id": pa.array([row["item_id"] for row in rows[:5]])}).group_by("item_id").aggregate([])
    prices = {row["item_id"]: row["price"] for row in rows}
    table = known.append_column("price", pa.array([prices[key] for key in known["item_id"].to_pylist()], pa.float64()))
    scorer = Scorer(folder, items=table, item_key="item_id")
    keys = [*known["item_id"].to_pylist(), 10**9, 10**9 + 1, -5]
    wanted = whole_rows(folder, [{**user, "item_id": key, "price": None} for key in keys[-3:]])
    found = scorer.score(user, items=keys)
    assert np.abs(found[-3:] - wanted).max() < EXACT
    assert len(set(np.round(found[-3:], 6).tolist())) > 1


def students(layout):
    few = {"item_id": Table(kind="hashed", rows=20), "country": Table(width=2)}
    both = {"width": 4, "attention": 4}
    yield "mlp", StudentModel(layout, **both, hidden=[16, 8])
    yield "no tower", StudentModel(layout, **both, hidden=[])
    yield "dcn", StudentModel(layout, **both, hidden=[8], interaction=Dcn(use="dcn", layers=2, rank=2))
    yield "fm", StudentModel(layout, **both, hidden=[8], interaction=Fm(use="fm"))
    yield "tables", StudentModel(layout, **both, hidden=[8], tables=few)
    yield "without price", StudentModel(layout, **both, hidden=[8], without=["price"])
    yield "int8", quantise(StudentModel(layout, **both, hidden=[8]), dict.fromkeys(layout.tables, 8))
    yield "int4", quantise(StudentModel(layout, **both, hidden=[8]), dict.fromkeys(layout.tables, 4))
    yield "two towers", TwoTowerModel(layout, width=4, hidden=[8], user=["country"], vector=4)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(9))
def test_every_kind_of_student_is_taken_apart_and_scores_the_same(tiny_prepared, tmp_path, number):
    torch.manual_seed(number)
    name, student = list(students(Encoder.open(tiny_prepared / "encoder").layout))[number]
    folder = make_bundle(tiny_prepared, tmp_path / "bundle", student=student)
    user, rows = of_one_user(Encoder.open(folder / "encoder").needed, 30, seed=number)
    table = item_table(rows)
    scorer = Scorer(folder, items=table)
    wanted = whole_rows(folder, rows)
    assert np.abs(scorer.score(user, candidates=columns(rows, ITEM)) - wanted).max() < EXACT, name
    by_key = {row["item_id"]: row for row in table.to_pylist()}
    wanted = whole_rows(folder, [{**row, **by_key[row["item_id"]]} for row in rows])
    assert np.abs(scorer.score(user, items=[row["item_id"] for row in rows]) - wanted).max() < EXACT, name
    assert scorer.about["not_split"] == [], name
    assert scorer.about["item_cache_bytes"] > 0, name


def test_a_student_that_reads_nothing_of_the_item_is_served_as_it_is_and_says_so(tiny_prepared, tmp_path):
    layout = Encoder.open(tiny_prepared / "encoder").layout
    student = StudentModel(layout, width=4, attention=4, hidden=[8], without=["item_id", "categories", "price"])
    folder = make_bundle(tiny_prepared, tmp_path / "bundle", student=student)
    scorer = Scorer(folder)
    user, rows = of_one_user(scorer.encoder.needed, 5)
    found = scorer.score(user, candidates=columns(rows, ITEM))
    assert np.abs(found - whole_rows(folder, rows)).max() < EXACT
    assert any("both" in reason for reason in scorer.about["not_split"])


def test_unknown_ids_are_all_the_unknown_one_and_none_is_another_row(bundle):
    scorer = Scorer(bundle)
    user, rows = of_one_user(scorer.encoder.needed, 1)
    unknown = [10**9, -1, -3, -(2**63), 2**63 - 1, 2**31, 2**32 + 5]
    one = {name: rows[0][name] for name in ITEM}
    found = scorer.score(user, candidates={n: unknown if n == "item_id" else [one[n]] * 7 for n in ITEM})
    assert np.ptp(found) == 0
    known = scorer.score(user, candidates={n: [v] for n, v in {**one, "item_id": 3}.items()})
    assert known[0] != found[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user": {}}, ["country", "history.item_id", "history.clicked"]),
        ({"user": {"country": "de", "history.item_id": []}}, ["history.clicked"]),
        ({"more": {"county": "de"}}, ["'county'", "did you mean country"]),
        ({"more": {"country": 5}}, ["country", "texts", "int"]),
        ({"more": {"history.item_id": ["3"]}}, ["history.item_id", "whole numbers", "str"]),
        ({"more": {"history.item_id": 3}}, ["history.item_id", "a list", "int"]),
        ({"candidates": {"item_id": [1.0, 2.0]}}, ["item_id", "whole numbers", "float"]),
        ({"candidates": {"item_id": [True, 2]}}, ["item_id", "whole numbers", "bool"]),
        ({"candidates": {"item_id": [2**64, 2]}}, ["item_id", "64 bits"]),
        ({"candidates": {"item_id": ["1", "2"]}}, ["item_id", "whole numbers", "str"]),
        ({"candidates": {"item_id": np.array([1.5, 2.0])}}, ["item_id", "float64"]),
        ({"candidates": {"price": ["1", "2"]}}, ["price", "numbers", "str"]),
        ({"candidates": {"price": [True, False]}}, ["price", "numbers", "bool"]),
        ({"candidates": {"price": [float("inf"), 1.0]}}, ["price", "finite"]),
        ({"candidates": {"price": [1.0]}}, ["price", "2 values", "1"]),
        ({"candidates": {"categories": [["a"], "b"]}}, ["categories", "list", "str"]),
        ({"more": {"item_id": 3}}, ["item_id", "user and candidates"]),
    ],
)
def test_a_bad_column_is_named_and_its_value_is_not_repeated(bundle, change, words):
    scorer = Scorer(bundle)
    user, rows = of_one_user(scorer.encoder.needed, 2)
    user = {**change.get("user", user), **change.get("more", {})}
    with pytest.raises(BadInput) as error:
        scorer.score(user, candidates={**columns(rows, ITEM), **change.get("candidates", {})})
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("value", [1.5, True, "7", [3]])
def test_a_hashed_id_of_another_type_is_refused_and_not_rounded(rich, value):
    scorer = rich_scorer(rich)
    row = random_rows(scorer.encoder.needed, 1)[0]
    with pytest.raises(BadInput, match=f"user_id: wanted int64, found {type(value).__name__}"):
        scorer.score({}, candidates={**{name: [given] for name, given in row.items()}, "user_id": [value]})


def test_no_candidates_have_no_scores_and_none_given_are_asked_for(bundle):
    scorer = Scorer(bundle)
    user, _ = of_one_user(scorer.encoder.needed, 1)
    assert scorer.score(user, candidates={name: [] for name in ITEM}).shape == (0,)
    with pytest.raises(BadInput, match="candidates"):
        scorer.score(user)


def test_the_best_come_first_and_equal_ones_as_given(bundle):
    scorer = Scorer(bundle)
    user, rows = of_one_user(scorer.encoder.needed, 9)
    given_twice = columns([*rows, *rows], ITEM)
    scores = scorer.score(user, candidates=given_twice)
    order, best = scorer.top(6, user, candidates=given_twice)
    assert best.tolist() == sorted(scores.tolist(), reverse=True)[:6]
    assert order[1] == order[0] + 9


def test_threads_get_what_one_thread_gets(bundle):
    scorer = Scorer(bundle)
    asked = []
    for seed in range(40):
        user, rows = of_one_user(scorer.encoder.needed, 1 + seed % 7, seed)
        asked.append((user, columns(rows, ITEM)))
    alone = [scorer.score(user, candidates=candidates) for user, candidates in asked]
    fresh = Scorer(bundle)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda one: fresh.score(one[0], candidates=one[1]), asked * 5))
    assert len(together) == 200
    for number, found in enumerate(together):
        assert np.array_equal(found, alone[number % 40])


def test_a_model_without_numbers_never_answers(tiny_prepared, tmp_path):
    folder = make_bundle(tiny_prepared, tmp_path / "bundle", scale=1e18, golden=0)
    scorer = Scorer(folder)
    user, rows = of_one_user(scorer.encoder.needed, 4)
    with pytest.raises(NotFinite):
        scorer.score(user, candidates=columns(rows, ITEM))


def test_an_item_table_must_have_its_key_once(bundle):
    table = pa.table({"item_id": [1, 1], "price": [1.0, 2.0]})
    with pytest.raises(BadInput, match="once"):
        Scorer(bundle, items=table)
    with pytest.raises(BadInput, match="column item_id"):
        Scorer(bundle, items=table.drop_columns(["item_id"]))

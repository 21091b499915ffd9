"""The parts of the shape of pairs: the log, its core and windows, the store, draws, models and lists."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from conftest import the_line
from hypothesis import given
from hypothesis import strategies as st
from pairs_world import pairs_run, write_checkerboard
from pydantic import ValidationError

from recdistill.config.pairs import Lists, PairModel
from recdistill.data.store import open_rows
from recdistill.distil.objectives.label.softmax import softmax
from recdistill.files import read_json
from recdistill.pairs.begin import closest
from recdistill.pairs.draws import labelled, unseen_items
from recdistill.pairs.judged import judged_users
from recdistill.pairs.labels import softmax_of_all
from recdistill.pairs.lists import ListMaker, StoredTeacher, top_of
from recdistill.pairs.log import open_positives, read_positives
from recdistill.pairs.models import fresh
from recdistill.pairs.prepare import prepare
from recdistill.pairs.split import by_ratio, k_core, leave_one_out
from recdistill.pairs.store import acts, open_acts
from recdistill.problems import BadInput
from recdistill.types import Batch, Scores

SOME = acts([0, 0, 1, 2, 2, 3], [2, 3, 4, 2, 5, 3], num_users=4, num_items=6)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_checkerboard(tmp_path_factory.mktemp("pairs") / "log")


def test_what_is_held_is_found_in_a_table_as_by_search():
    searched, users = replace(SOME, table=None), np.repeat(np.arange(4), 6)
    items = np.tile(np.arange(6), 4)
    assert SOME.table is not None
    assert SOME.holds(users, items).tolist() == searched.holds(users, items).tolist()
    assert SOME.holds(users, items).sum() == 6


@pytest.mark.parametrize(("users", "items", "width"), [(7, 9, 5), (3, 9, 5), (9, 4, 8)])
def test_a_student_as_wide_as_its_teacher_begins_with_all_its_scores(users, items, width):
    generator = torch.Generator().manual_seed(0)
    user, item = (torch.randn((rows, 5), generator=generator) for rows in (users, items))
    user[0] = 0  # as that of a user that nobody is
    one, other = closest(user, item, width)
    assert (tuple(one.shape), tuple(other.shape)) == ((users, width), (items, width))
    assert torch.allclose(one @ other.T, user @ item.T, atol=1e-5)
    assert one[0].abs().max() < 1e-6


def prepared(run, out):
    out.mkdir()
    prepare(run, {}, out)
    return out


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40), st.integers(1, 4))
def test_a_core_is_the_largest_part_with_as_many_pairs_each(pairs, least):
    user, item = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    kept = k_core(user, item, least)
    for side in (user, item):
        assert all(count == 0 or count >= least for count in np.bincount(side[kept]))
    left = list(zip(user[~kept], item[~kept], strict=True))
    if len(left) == 1:  # what was left out alone cannot be put back
        assert (user == left[0][0]).sum() < least or (item == left[0][1]).sum() < least


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 99))
def test_shares_are_of_every_user(users, seed):
    user = np.array(users, dtype=np.int64)
    window = by_ratio(user, 0.8, 0.1, np.random.default_rng(seed))
    for one in np.unique(user):
        size = int((user == one).sum())
        assert (window[user == one] == 0).sum() == max(1, int(0.8 * size + 0.5))
        assert (window[user == one] == 2).sum() == size - max(1, int(0.9 * size + 0.5))


@given(st.integers(0, 99))
def test_the_last_of_each_user_is_left_out(seed):
    generator = np.random.default_rng(seed)
    user, time = generator.integers(0, 5, 40), generator.permutation(40)
    window = leave_one_out(user, time, generator)
    for one in np.unique(user):
        at = time[user == one]
        if len(at) >= 3:
            assert time[(user == one) & (window == 2)].tolist() == [at.max()]
            assert time[(user == one) & (window == 1)].tolist() == [np.sort(at)[-2]]
        else:
            assert (window[user == one] == 0).all()


def test_windows_hold_the_same_pairs_as_the_log(log, tmp_path):
    run = pairs_run(log, tmp_path)
    out = prepared(run, tmp_path / "out")
    every = read_positives(run, open_positives(run))
    rows = {name: open_rows(out, name) for name in ("train", "valid", "test")}
    ids = np.concatenate([one["row_id"] for one in rows.values()])
    assert sorted(ids) == sorted(every.row_id)
    assert len(rows["train"]) == 90 * 10
    data = read_json(out / "data.json")
    assert (data["num_users"], data["num_items"]) == (90, 60)


def test_a_split_in_time_has_no_pair_of_the_future(log, tmp_path):
    run = pairs_run(log, tmp_path, data={"pairs": {"item": "item_id", "split": "time"}})
    out = prepared(run, tmp_path / "out")
    times = [open_rows(out, name)["time"] for name in ("train", "valid", "test")]
    assert times[0].max() < times[1].min()
    assert times[1].max() < times[2].min()


def test_files_are_windows_where_they_are_named(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    windows = {"train": [[1, 7], [1, 8], [2, 7], [2, 9]], "valid": [[1, 9]], "test": [[2, 8], [3, 7], [1, 7]]}
    for name, pairs in windows.items():
        table = pa.table({"user": [u for u, _ in pairs], "item": [i for _, i in pairs]})
        pyarrow.csv.write_csv(table, folder / f"{name}.csv")
    files = {name: f"{name}.csv" for name in windows}
    data = {
        "source": str(folder),
        "user": "user",
        "time": "",
        "pairs": {"item": "item", "split": "files", "files": files},
    }
    out = prepared(pairs_run(folder, tmp_path, data=data), tmp_path / "out")
    ids = {name: open_rows(out, name)["ids"].tolist() for name in windows}
    assert ids["train"] == [[2, 2], [2, 3], [3, 2], [3, 4]]
    assert ids["valid"] == [[2, 4]]
    assert ids["test"] == [[3, 3]]  # user 3 is not in train, and 1 with 7 is a train pair
    assert read_json(out / "data.json")["test"]["unseen"] == 1


def test_ratings_below_the_threshold_are_no_positives(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    table = pa.table({"u": [1, 1, 2], "i": ["a", "b", "a"], "rating": [5, 3, 4]})
    pq.write_table(table, folder / "part.parquet")
    data = {"source": str(folder), "user": "u", "time": "", "label": {"column": "rating", "at_least": 4}}
    run = pairs_run(folder, tmp_path, data={**data, "pairs": {"item": "i"}})
    assert read_positives(run, open_positives(run)).row_id.tolist() == [0, 2]


def test_all_that_does_not_fit_is_said_at_once(log, tmp_path):
    data = {"user": "who", "time": "", "keep_negatives": 0.5, "pairs": {"item": "what", "split": "time"}}
    with pytest.raises(BadInput) as caught:
        open_positives(pairs_run(log, tmp_path, data=data))
    lines = caught.value.problems
    assert len(lines) == 4
    for words in (("column who",), ("column what",), ("data.keep_negatives",), ("data.time",)):
        the_line(lines, *words)


def test_a_metric_of_the_other_shape_is_refused(log, tmp_path):
    with pytest.raises(ValidationError, match="auc"):
        pairs_run(log, tmp_path, gates={"metric": "auc"})


ALL_AT_ONCE = {"pairs": {"loss": "softmax", "negatives": "all"}}


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"teacher": {"members": 2}}, "teacher.members: wanted none beside data.pairs"),
        ({"recipe": {"teacher": "live"}}, "recipe.teacher: wanted stored beside data.pairs, found live"),
        (
            {"recipe": {"targets": ["keep_true"], "terms": ["label.bce", "list.softmax_kl"]}},
            "recipe.lists.positives: wanted 1 or more beside data.pairs for keep_true, found 0",
        ),
        ({"recipe": {"scores": "out_of_fold"}}, "recipe.scores: wanted in_sample beside data.pairs"),
        (
            {"recipe": {"init": "teacher_pca"}, "student": {"pairs": {"use": "lightgcn"}}},
            "recipe.init: wanted student.pairs.use: mf beside init: teacher_pca, found lightgcn",
        ),
        ({"student": ALL_AT_ONCE, "recipe": {"terms": [{"use": "label.smoothed_bce"}]}}, "the term label.smoothed_bce"),
        ({"student": ALL_AT_ONCE, "recipe": {"stress": {"keep_positives": 0.5}}}, "found stress"),
    ],
)
def test_what_pairs_do_not_know_is_refused_before_anything_runs(log, tmp_path, sections, said):
    with pytest.raises(ValidationError) as caught:
        pairs_run(log, tmp_path, **sections)
    assert said in str(caught.value)


def test_nothing_is_drawn_that_the_user_acted_on():
    drawn = unseen_items(SOME, np.repeat([0, 1, 2], 50), 4, np.random.default_rng(0))
    users = np.repeat(np.repeat([0, 1, 2], 50), 4)
    assert not SOME.holds(users, drawn.reshape(-1)).any()
    assert drawn.min() >= 2
    assert set(drawn[:50].reshape(-1)) == {4, 5}


def test_a_labelled_request_is_a_pair_and_its_draws():
    batch = labelled(SOME, np.array([0, 2]), np.array([2, 5]), 2, np.random.default_rng(0))
    assert batch.request.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.label.tolist() == [1, 0, 0, 1, 0, 0]
    assert batch.ids[::3].tolist() == [[0, 2], [2, 5]]
    assert batch.row_id.tolist() == (batch.ids[:, 0] * 6 + batch.ids[:, 1]).tolist()


def test_all_items_are_what_drawing_each_of_them_once_would_be():
    torch.manual_seed(3)
    users, items = torch.randn(4, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    user, item = np.array([2, 2, 3]), np.array([2, 5, 3])
    found = softmax_of_all(users, items, SOME, user, item, temperature=0.7)
    wanted = []
    for one, liked, others in ((2, 2, [3, 4]), (2, 5, [3, 4]), (3, 3, [2, 4, 5])):
        request = replace(Batch.example(label=[1.0] + [0.0] * len(others)), request=torch.zeros(1 + len(others)).long())
        logit = items[[liked, *others]] @ users[one]
        wanted.append(softmax(Scores(logit=logit), None, request, temperature=0.7))
    torch.testing.assert_close(found, torch.cat(wanted).mean())


def test_all_items_want_the_softmax():
    with pytest.raises(ValidationError, match="wanted loss: softmax"):
        PairModel(negatives="all")


@pytest.mark.parametrize("layers", [1, 3])
def test_a_graph_is_the_dense_formula_and_so_is_its_gradient(layers):
    torch.manual_seed(0)
    model = fresh(PairModel(use="lightgcn", layers=layers), 3, SOME)
    adjacent = torch.zeros(10, 10)
    for user, item in zip(SOME.user, SOME.item + 4, strict=True):
        adjacent[user, item] = adjacent[item, user] = 1
    degree = adjacent.sum(dim=1).clamp_min(1).rsqrt()
    graph = degree[:, None] * adjacent * degree
    own = torch.cat([model.user, model.item]).detach().requires_grad_()
    powers = [torch.linalg.matrix_power(graph, n) @ own for n in range(layers + 1)]
    wanted = torch.stack(powers).mean(dim=0)
    found = torch.cat(model.vectors())
    assert torch.allclose(found, wanted, atol=1e-6)
    found.square().sum().backward()
    wanted.square().sum().backward()
    assert torch.allclose(torch.cat([model.user.grad, model.item.grad]), own.grad, atol=1e-5)


def test_a_list_holds_each_item_once_and_what_was_asked_for():
    user, item = torch.randn(4, 3), torch.randn(6, 3)
    top, _ = top_of(user, item, SOME, 3)
    assert not SOME.holds(np.repeat(np.arange(4), 3)[top.reshape(-1) > 0], top.reshape(-1)[top.reshape(-1) > 0]).any()
    settings = Lists(teacher_top=2, random=3, positives=2)
    maker = ListMaker(settings, SOME, StoredTeacher(user=user, item=item, top=top), 0, hidden=True)
    batch = maker.lists(np.array([0, 2, 0, 3]))
    assert len(set(batch.row_id.tolist())) == len(batch)
    assert set(batch.request.tolist()) == {0, 2, 3}
    ids = batch.ids.numpy()
    assert SOME.holds(ids[:, 0], ids[:, 1]).tolist() == (batch.label > 0).tolist()
    for one in (0, 2, 3):
        mine = set(ids[ids[:, 0] == one][:, 1])
        assert set(top[one][:2]) - {0} <= mine
    assert torch.allclose(batch.teacher.logit, (user[ids[:, 0]] * item[ids[:, 1]]).sum(dim=1), atol=1e-6)
    assert torch.equal(batch.teacher.hidden, torch.cat([user[ids[:, 0]], item[ids[:, 1]]], dim=1))


def test_test_pairs_are_judged_among_what_is_in_no_earlier_window(log, tmp_path):
    out = prepared(pairs_run(log, tmp_path), tmp_path / "out")
    judged, test = judged_users(out, "test"), open_acts(out, "test")
    assert len(judged.relevant[0]) == len(test.item)
    before = open_acts(out, "train", "valid")
    _, item = judged.seen
    assert (item >= 2).sum() == len(before.item)
    few = judged_users(out, "test", negatives=5)
    counts = np.bincount(few.only[0])
    assert (counts == 5 + test.sizes[few.user]).all()

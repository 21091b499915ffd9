"""A student that begins as an earlier one: rows follow their values, layers are taken whole or refused; row numbers."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import make_run, the_line

from recdistill.data.encoder import Encoder
from recdistill.data.tables import Vocabulary
from recdistill.files import whole_folder
from recdistill.problems import BadInput
from recdistill.train.predict import save_weights
from recdistill.train.students.earlier import renumbered
from recdistill.train.students.shape import build_student
from recdistill.train.students.warm import begin_as_earlier
from recdistill.train.teachers.warm import ENCODER, folder_digest

NAME = "student-0.safetensors"


@pytest.fixture
def run(tiny_log, tmp_path):
    def build(**student):
        return make_run(tiny_log, tmp_path, student={"tables": {"country": {"kind": "hashed", "rows": 4}}, **student})

    return build


@pytest.fixture
def yesterday(run, tiny_prepared, tmp_path):
    """A finished distil folder, and its weights."""
    encoder = Encoder.open(tiny_prepared / ENCODER)
    torch.manual_seed(1)
    weights = dict(build_student(run(), encoder.layout, {}).state_dict())
    with whole_folder(tmp_path / "distil-old", {"step": "distil", "key": "k"}) as out:
        save_weights(weights, out / NAME)
        shutil.copytree(tiny_prepared / ENCODER, out / ENCODER)
    return tmp_path / "distil-old", encoder, weights


def with_items(encoder, values):
    """The same encoder, but with these items."""
    changed = encoder.layout.to_json()
    for feature in changed["ids"]:
        if feature["table"] == "item_id":
            feature["num_rows"] = len(values) + 2
    tables = {**encoder.tables, "item_id": Vocabulary(name="item_id", values=pa.array(values))}
    return replace(encoder, layout=type(encoder.layout).from_json(changed), tables=tables)


def test_rows_follow_their_values_and_new_ones_stay_fresh(run, yesterday):
    folder, encoder, weights = yesterday
    old = encoder.tables["item_id"].values.to_pylist()
    values = [max(old) + 7, *old[-2::-1], max(old) + 9]
    now = with_items(encoder, values)
    torch.manual_seed(2)
    student = build_student(run(), now.layout, {})
    fresh = {name: value.clone() for name, value in student.state_dict().items()}
    begin_as_earlier(student, now, folder, NAME)
    found = student.state_dict()
    name = f"tables.parts.{student.tables.names['item_id']}.weight"
    for row, value in enumerate(values, start=2):
        wanted = weights[name][2 + old.index(value)] if value in old else fresh[name][row]
        assert torch.equal(found[name][row], wanted), value
    for other in found.keys() - {name}:  # the hashed countries among them: their numbers stayed
        assert torch.equal(found[other], weights[other]), other
    assert any("rows.weight" in other for other in found)


def test_a_hashed_table_whose_values_moved_stays_fresh(run, yesterday):
    folder, encoder, _ = yesterday
    countries = encoder.tables["country"].values.to_pylist()
    moved = {**encoder.tables, "country": Vocabulary(name="country", values=pa.array(countries[::-1]))}
    student = build_student(run(), encoder.layout, {})
    name = next(n for n in student.state_dict() if n.endswith("rows.weight"))
    fresh = student.state_dict()[name].clone()
    begin_as_earlier(student, replace(encoder, tables=moved), folder, NAME)
    assert torch.equal(student.state_dict()[name], fresh)


def test_layers_of_other_shapes_are_refused_each_in_a_line(run, yesterday):
    folder, encoder, _ = yesterday
    wider = build_student(run(tower=[9]), encoder.layout, {})
    before = {name: value.clone() for name, value in wider.state_dict().items()}
    with pytest.raises(BadInput) as caught:
        begin_as_earlier(wider, encoder, folder, NAME)
    assert len(caught.value.problems) >= 2
    the_line(caught.value.problems, "head.weight", "wanted a weight of shape (1, 9)", "found (1, 8)")
    assert all(torch.equal(value, before[name]) for name, value in wider.state_dict().items())


def test_a_folder_of_another_step_is_refused(yesterday, tmp_path):
    folder, _, _ = yesterday
    assert folder_digest(folder, "distil", "student.warm_start") == folder_digest(folder, "distil", "other")
    with pytest.raises(BadInput) as caught:
        folder_digest(folder, "train_teacher")
    the_line(caught.value.problems, "teacher.warm_start", "found one of step distil")
    with pytest.raises(BadInput) as caught:
        folder_digest(tmp_path, "distil", "student.warm_start")
    the_line(caught.value.problems, "student.warm_start", "found no manifest", "give runs/NAME/distil-KEY")


def log_of(*files):
    return {"files": [{"name": name, "sha256": sha256, "num_rows": rows} for name, sha256, rows in files]}


def test_rows_are_renumbered_file_by_file():
    before = log_of(("a", "1", 3), ("b", "2", 2), ("c", "3", 4))
    now = log_of(("b", "2", 2), ("c", "changed", 4), ("d", "4", 5), ("a", "1", 3))
    every = np.arange(9)
    assert renumbered(every, before, now).tolist() == [11, 12, 13, 0, 1, -1, -1, -1, -1]
    assert renumbered(every, before, before).tolist() == every.tolist()

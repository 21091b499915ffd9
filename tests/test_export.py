"""The export step: what ships scores as torch does, in float, in 8 and in 4 bits, and is refused where it got worse."""

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch
from conftest import make_run

from recdistill.bundle import CARD, GRAPH, ITEM_GRAPH, ITEM_VECTORS, USER_GRAPH, open_bundle
from recdistill.data.encoder import Encoder
from recdistill.data.store import open_rows
from recdistill.export import export
from recdistill.files import read_json, whole_folder
from recdistill.models.build import build
from recdistill.pipeline import run_all
from recdistill.problems import BadInput
from recdistill.ship.cost import Shipped, quantised_sizes, refuse_worse
from recdistill.ship.golden import read_golden
from recdistill.ship.quantise import quantise, refuse_not_finite, sizes
from recdistill.train.predict import load_weights
from recdistill.train.students.student import open_student, weights_name

STUDENT = {"epochs": 2, "width": 16, "seeds": 1}


@pytest.fixture(scope="module")
def trained(tiny_log, tmp_path_factory):
    """A run up to distil, with tables wide enough for quantising to pay."""
    run = make_run(tiny_log, tmp_path_factory.mktemp("trained"), student=STUDENT)
    return run, run_all(run, until="distil").folders


def exported(trained, tmp_path, **sections):
    """The export step of the trained run with other settings of its own section."""
    run, folders = trained
    run = run.model_copy(update={"export": run.export.model_copy(update=sections)})
    with whole_folder(tmp_path / "export", {"step": "export", "key": "0"}) as out:
        export(run, folders, out)
    return tmp_path / "export", read_json(tmp_path / "export/export.json")


@pytest.mark.parametrize("precision", ["none", "int4", pytest.param("int8", marks=pytest.mark.slow)])
def test_raw_rows_score_in_the_file_as_in_torch_with_every_precision(trained, tmp_path, precision):
    folder, about = exported(trained, tmp_path, quantise=precision, least_share=0.5)
    assert about["max_difference"] < 1e-5
    bundle = open_bundle(folder / about["shipped"])
    assert bundle.check_golden() < 1e-5
    operators = {node.op_type for node in onnx.load(folder / about["shipped"] / GRAPH).graph.node}
    assert ("DequantizeLinear" in operators) == (precision != "none")
    assert ("BitShift" in operators) == (precision == "int4")
    if precision == "none":
        assert about["quantised"] is None
        assert about["tables"] == about["float_tables"]
    else:
        found = about["quantised"]
        assert found["float"]["difference"] < 1e-5
        assert 0 < found["largest_gap"] < {"int8": 0.05, "int4": 1.0}[precision]
        assert found["quantised"]["graph_bytes"] == about["graph_bytes"] < found["float"]["graph_bytes"]
        whole, small = about["float_tables"]["item_id"]["bytes"], about["tables"]["item_id"]["bytes"]
        assert small == whole * ({"int8": 16, "int4": 8}[precision] + 2) // 64


def test_export_says_what_every_table_costs_and_the_card_repeats_it(trained, tmp_path):
    folder, about = exported(trained, tmp_path)
    layout = Encoder.open(trained[1]["prepare"] / "encoder").layout
    assert set(about["tables"]) == {*layout.tables, "dense layers"}
    assert about["tables"]["item_id"] == {
        "parameters": layout.tables["item_id"] * 16,
        "bytes": layout.tables["item_id"] * 64,
    }
    total = sum(table["parameters"] for table in about["tables"].values())
    assert total == read_json(trained[1]["distil"] / "students.json")["parameters"]
    assert about["bytes"] > about["graph_bytes"] + about["encoder_bytes"]
    text = (folder / about["shipped"] / CARD).read_text()
    assert f"| item_id | {layout.tables['item_id'] * 16:,} |" in text
    assert "fingerprint" in text


def test_golden_requests_are_raw_rows_of_the_test_window(trained, tmp_path):
    folder, about = exported(trained, tmp_path, golden=5)
    requests, scores = read_golden(folder / about["shipped"])
    assert len(scores) == requests.num_rows == 5
    assert "history.item_id" in requests.schema.names


def test_a_student_that_lost_too_much_is_refused_and_nothing_is_left(trained, tmp_path, monkeypatch):
    """As many bits as it likes, but every code is the same."""
    real = torch.round
    monkeypatch.setattr(torch, "round", lambda value: real(value).sign())
    with pytest.raises(BadInput, match=r"auc on the validation window: wanted at least 99\.9% of the float student's"):
        exported(trained, tmp_path, quantise="int4")
    assert list(tmp_path.iterdir()) == []


def test_all_metrics_that_fell_are_told_and_equal_ones_pass():
    same = {"bytes": 1, "graph_bytes": 1, "encoder_bytes": 0, "difference": 0.0}
    whole = Shipped(auc=0.8, ndcg_at_10=0.5, **same)
    refuse_worse(Shipped(auc=0.8 * 0.9991, ndcg_at_10=0.5, **same), whole, 0.999)
    with pytest.raises(BadInput) as caught:
        refuse_worse(Shipped(auc=0.79, ndcg_at_10=0.49, **same), whole, 0.999)
    assert len(caught.value.problems) == 2
    with pytest.raises(BadInput):
        refuse_worse(Shipped(auc=float("nan"), ndcg_at_10=0.5, **same), whole, 0.999)


def test_weights_that_are_no_numbers_are_refused_with_table_and_row(trained):
    run, folders = trained
    layout = Encoder.open(folders["prepare"] / "encoder").layout
    student = open_student(run, layout, folders["distil"], "student", 0)
    refuse_not_finite(student, "student-0")
    with torch.no_grad():
        student.tables["item_id"].weight[7, 1] = torch.nan
        student.tower[0].bias[2] = torch.inf
    with pytest.raises(BadInput) as caught:
        refuse_not_finite(student, "student-0")
    assert [line.partition(": wanted")[0] for line in caught.value.problems] == [
        "student-0: table item_id, row 7",
        "student-0: tower.0.bias, row 2",
    ]


@pytest.mark.slow
def test_sizes_for_the_bench_are_of_the_graph_and_say_what_is_lost(trained):
    found = quantised_sizes(*trained)
    assert found["float_bytes"] > max(found["int8_bytes"], found["int4_bytes"])
    assert found["encoder_bytes"] > 0
    assert abs(found["int8_auc_loss"]) < 0.01
    assert abs(found["int4_auc_loss"]) < 0.1


SHAPES = {
    "hashed": {"tables": {"item_id": {"kind": "hashed", "rows": 20}}},
    "quotient_remainder": {"tables": {"item_id": {"kind": "quotient_remainder"}}},
    "mixed_dimension": {"tables": {"item_id": {"kind": "mixed_dimension"}}},
    "pruned": {"table": {"min_count": 3}},
    "widths": {"tables": {"item_id": {"width": 5, "quantise": "int4"}, "clicked": {"width": 2}}},
    "aware": {"table": {"quantise": "int4", "aware": True}},
    "dcn": {"interaction": {"use": "dcn", "rank": 2}},
    "fm": {"interaction": "fm"},
    "two_tower": {"interaction": {"use": "two_tower", "user": ["country"], "width": 4}},
}


@pytest.mark.parametrize(("shape", "bits"), zip(SHAPES, [8, 4, 8, 4, None, 4, 8, None, 8], strict=True))
def test_every_shape_exports_and_scores_as_torch_does(tiny_prepared, tmp_path, shape, bits):
    """Weights are as drawn: what matters is that file and torch agree."""
    from recdistill.ship.onnx_graph import to_onnx
    from recdistill.train.students.look_ups import look_ups

    run = make_run(tmp_path, tmp_path, student={**SHAPES[shape], "width": 16})
    rows = open_rows(tiny_prepared, "train")
    counts = look_ups(rows, run.student.counted(rows.layout.tables))
    torch.manual_seed(1)
    student = build(rows.layout, run.student, (), counts).eval()
    small = quantise(student, {} if bits is None else dict.fromkeys(student.tables.names, bits))
    to_onnx(small, rows.layout, tmp_path / GRAPH)
    ids, dense = rows.ids(np.arange(300)), rows.dense(np.arange(300))
    with torch.no_grad():
        wanted = small(torch.from_numpy(ids), torch.from_numpy(dense)).logit.numpy()
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / GRAPH)
    names = {node.name for node in session.get_inputs()}
    for part in (slice(0, 300), slice(5, 6)):
        given = {name: value[part] for name, value in (("ids", ids), ("dense", dense)) if name in names}
        (found,) = session.run(["logit"], given)
        assert np.abs(found - wanted[part]).max() < 1e-5
    assert wanted.std() > 1e-4
    if bits is not None:
        assert sum(s["bytes"] for s in sizes(small).values()) < sum(s["bytes"] for s in sizes(student).values())


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["mixed_dimension", "pruned", "two_tower"])
def test_students_of_a_shape_are_trained_kept_and_opened_again(tiny_log, tmp_path, shape):
    run = make_run(tiny_log, tmp_path, student={**SHAPES[shape], "width": 8, "seeds": 1})
    folders = run_all(run, until="evaluate").folders
    about = read_json(folders["export"] / "export.json")
    assert about["max_difference"] < 1e-5
    if shape == "two_tower":
        check_vectors(run, folders, folders["export"] / about["shipped"])


def check_vectors(run, folders, folder):
    """The dot product of what the two graphs and the index file give is the logit, less one bias."""
    bundle = open_bundle(folder)
    rows = open_rows(folders["prepare"], "train")
    last = np.arange(len(rows) - 200, len(rows))
    ids, dense = rows.ids(last), rows.dense(last)
    import onnxruntime

    vectors = {}
    for graph in (USER_GRAPH, ITEM_GRAPH):
        session = onnxruntime.InferenceSession(folder / graph)
        names = {node.name for node in session.get_inputs()}
        (vectors[graph],) = session.run(None, {k: v for k, v in {"ids": ids, "dense": dense}.items() if k in names})
    gap = bundle.logits(ids, dense) - (vectors[USER_GRAPH] * vectors[ITEM_GRAPH]).sum(axis=1)
    assert np.ptp(gap) < 1e-5
    with pa.ipc.open_file(folder / ITEM_VECTORS) as reader:
        index = reader.read_all().to_pydict()
    assert len(set(index["id"])) == len(index["id"]) > 50
    values = bundle.encoder.tables["item_id"].values.to_pylist()
    assert index["item"] == [values[place - 2] for place in index["id"]]
    kept = dict(zip(index["id"], index["vector"], strict=True))
    newest = {int(item): place for place, item in enumerate(ids[:, rows.layout.target.start])}
    for item, place in newest.items():
        assert np.abs(np.array(kept[item]) - vectors[ITEM_GRAPH][place]).max() < 1e-5


def test_the_default_student_is_opened_with_the_weights_that_were_kept(trained, tmp_path):
    run, folders = trained
    layout = Encoder.open(folders["prepare"] / "encoder").layout
    kept = load_weights(folders["distil"], weights_name("student", 0))
    student = open_student(run, layout, folders["distil"], "student", 0)
    assert {name: value.shape for name, value in student.state_dict().items()} == {k: v.shape for k, v in kept.items()}
    assert all(torch.equal(value, kept[name]) for name, value in student.state_dict().items())

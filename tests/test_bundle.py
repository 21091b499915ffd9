"""A bundle is opened only whole, known and with its own encoder; it scores raw rows as torch scores encoded ones."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from conftest import make_run

from recdistill.bundle import GRAPH, bundle_digest, open_bundle
from recdistill.data.encoder import Encoder
from recdistill.data.prepare import open_checked
from recdistill.data.requests import raw_requests
from recdistill.data.store import open_rows
from recdistill.files import MANIFEST, contents, digest, manifest, write_json
from recdistill.models.student import StudentModel
from recdistill.problems import BadInput
from recdistill.ship.golden import GOLDEN, read_golden, write_golden
from recdistill.ship.request_schema import REQUEST
from recdistill.ship.write_bundle import write_bundle

NUM_ROWS = 64


@pytest.fixture(scope="module")
def student(tiny_prepared):
    torch.manual_seed(0)
    layout = Encoder.open(tiny_prepared / "encoder").layout
    return StudentModel(layout, width=2, attention=4, hidden=[8]).eval()


@pytest.fixture(scope="module")
def requests(tiny_log, tiny_prepared):
    """Raw test rows in the order of the store."""
    run = make_run(tiny_log, tiny_prepared.parent)
    encoder, none = Encoder.open(tiny_prepared / "encoder"), np.empty(0, np.int64)
    return raw_requests(run, open_checked(run), open_rows(tiny_prepared, "test")["row_id"][:NUM_ROWS], none, encoder)


@pytest.fixture(scope="module")
def exported(student, requests, tiny_prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "student-0"
    encoder = Encoder.open(tiny_prepared / "encoder")
    write_bundle(student, tiny_prepared / "encoder", encoder, requests.schema, folder)
    return folder


@pytest.fixture(scope="module")
def golden_bundle(student, requests, tiny_prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden") / "student-0"
    encoder = Encoder.open(tiny_prepared / "encoder")
    write_bundle(student, tiny_prepared / "encoder", encoder, requests.schema, folder, golden=requests)
    return open_bundle(folder)


@pytest.fixture
def copy(exported, tmp_path):
    """One's own to spoil."""
    return shutil.copytree(exported, tmp_path / "bundle")


@pytest.fixture(scope="module")
def bundle(exported):
    return open_bundle(exported)


def rewrite(folder, **about):
    """Change a bundle and make its manifest true again."""
    write_json(folder / MANIFEST, {**manifest(folder), **about, "files": contents(folder)})


def test_raw_rows_score_as_encoded_rows_do_in_torch(bundle, requests, student, tiny_prepared):
    rows = open_rows(tiny_prepared, "test")
    index = np.arange(NUM_ROWS)
    with torch.no_grad():
        wanted = student(torch.from_numpy(rows.ids(index)), torch.from_numpy(rows.dense(index))).logit.numpy()
    assert np.abs(bundle.score(requests) - wanted).max() < 1e-5
    assert np.abs(bundle.logits(rows.ids(index), rows.dense(index)) - wanted).max() < 1e-5
    assert wanted.std() > 1e-3


def test_any_number_of_rows_may_be_scored_together(bundle, requests):
    together = bundle.score(requests)
    for start, length in ((0, 1), (5, 1), (0, 2), (10, 37)):
        assert np.abs(bundle.score(requests.slice(start, length)) - together[start : start + length]).max() < 1e-6
    assert bundle.score(requests.slice(0, 0)).shape == (0,)


def test_a_column_that_is_not_asked_for_does_not_matter(bundle, requests):
    asked = manifest(bundle.folder)["request"]
    assert set(asked) == {"item_id", "country", "categories", "price", "history.item_id", "history.clicked"}
    assert asked["item_id"] == "int64"
    assert (bundle.score(requests.select(list(asked))) == bundle.score(requests)).all()


@pytest.mark.parametrize("column", ["country", "price", "history.clicked"])
def test_a_column_that_is_missing_is_told(bundle, requests, column):
    with pytest.raises(BadInput, match=f"wanted column {column}, found none"):
        bundle.score(requests.drop_columns([column]))


@pytest.mark.parametrize("value", [-1, 10**6])
@pytest.mark.parametrize("column", [0, 4])
def test_an_id_outside_its_table_is_refused(bundle, tiny_prepared, column, value):
    rows = open_rows(tiny_prepared, "test")
    ids, dense = rows.ids(np.arange(8)), rows.dense(np.arange(8))
    ids[3, column] = value
    with pytest.raises(BadInput, match=rf"id column {column}: wanted ids from 0 to \d+, found .*{value}"):
        bundle.logits(ids, dense)


def test_the_largest_id_of_every_table_is_inside(bundle):
    limits = np.array(bundle.encoder.layout.limits())
    found = bundle.logits((limits - 1)[None, :], np.zeros((1, 1), np.float32))
    assert np.isfinite(found).all()


def spoil_graph(folder):
    data = bytearray((folder / GRAPH).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / GRAPH).write_bytes(data)
    return GRAPH


def remove_encoder(folder):
    (folder / "encoder/encoder.json").unlink()
    return "encoder/encoder.json"


def test_a_planted_pickle_is_refused_even_where_the_manifest_lists_it(copy):
    """The payload would make a file; nothing reads it, and the bundle is not opened."""
    canary = copy.parent / "canary"
    (copy / "encoder/scaler.pkl").write_bytes(b"cposix\nsystem\n(Vtouch " + str(canary).encode() + b"\ntR.")
    rewrite(copy)
    with pytest.raises(BadInput, match=r"scaler\.pkl: wanted only files of a bundle, found another; do not open it"):
        open_bundle(copy)
    assert not canary.exists()


def change_graph(folder, change):
    """Change the ONNX model and make the manifest true again."""
    model = onnx.load_model_from_string((folder / GRAPH).read_bytes())
    change(model)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    rewrite(folder)


def weights(model):
    """The model's float matrices."""
    found = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2]
    assert len(found) >= 3
    return found


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "student.onnx.data", "encoder/encoder.json"])
def test_a_tensor_in_another_file_is_refused_and_the_file_never_read(copy, location):
    (copy.parent / "secret.bin").write_bytes(b"\0" * 10**5)

    def elsewhere(model):
        tensor = weights(model)[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    change_graph(copy, elsewhere)
    with pytest.raises(BadInput, match=r"tensor .*: wanted its numbers in the model itself, found the file"):
        open_bundle(copy)


def test_a_tensor_elsewhere_is_found_inside_a_function_and_a_branch(copy):
    def hide(model):
        tensor = onnx.TensorProto(name="hidden", data_location=onnx.TensorProto.EXTERNAL, data_type=1, dims=[1])
        branch = onnx.helper.make_graph([], "branch", [], [], initializer=[tensor])
        node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
        opset = [onnx.helper.make_opsetid("", 20)]
        model.functions.append(onnx.helper.make_function("local", "hiding", ["x"], ["y"], [node], opset))

    change_graph(copy, hide)
    with pytest.raises(BadInput, match="tensor hidden") as caught:
        open_bundle(copy)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_refused(copy, value):
    def spoil(model):
        tensor = weights(model)[1]
        array = onnx.numpy_helper.to_array(tensor).copy()
        array[1, 0] = value
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))

    change_graph(copy, spoil)
    with pytest.raises(BadInput, match="wanted finite numbers, found NaN or infinity; train the student again"):
        open_bundle(copy)


def test_bytes_that_are_no_model_are_refused(copy):
    (copy / GRAPH).write_bytes(b"\x80\x04not a model")
    rewrite(copy)
    with pytest.raises(BadInput, match="wanted an ONNX model, found other bytes"):
        open_bundle(copy)


def test_golden_requests_get_the_scores_that_they_had(golden_bundle):
    assert 0 < len(read_golden(golden_bundle.folder)[1]) == NUM_ROWS
    assert golden_bundle.check_golden() < 1e-5


def test_other_scores_than_the_golden_ones_are_refused(golden_bundle, tmp_path):
    copy = shutil.copytree(golden_bundle.folder, tmp_path / "bundle")
    requests, scores = read_golden(copy)
    scores = scores.copy()
    scores[7] += 0.01
    (copy / GOLDEN).unlink()
    write_golden(requests, scores, copy)
    rewrite(copy)
    with pytest.raises(BadInput, match=r"golden request 7: wanted .* within 0\.0001, found"):
        open_bundle(copy).check_golden()


def test_a_bundle_without_golden_requests_says_so(bundle):
    with pytest.raises(BadInput, match="wanted golden requests, found none"):
        bundle.check_golden()


def test_the_schema_of_a_request_names_every_column_with_its_type(exported):
    schema = json.loads((exported / REQUEST).read_text())
    assert set(schema["required"]) == set(manifest(exported)["request"]) == set(schema["properties"])
    assert schema["properties"]["item_id"] == {"type": ["integer", "null"]}
    assert schema["properties"]["history.item_id"]["items"] == {"type": ["integer", "null"]}


def add_file(folder):
    (folder / "student.onnx.data").write_bytes(b"weights from elsewhere")
    return "student.onnx.data"


@pytest.mark.parametrize("spoil", [spoil_graph, remove_encoder, add_file])
def test_a_damaged_bundle_is_refused_with_the_file(copy, spoil):
    name = spoil(copy)
    with pytest.raises(BadInput) as caught:
        open_bundle(copy)
    (line,) = caught.value.problems
    assert str(copy / name) in line
    assert line.endswith("; fetch it again")


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no _manifest\.json"):
        open_bundle(tmp_path)


def test_a_bundle_of_another_format_is_refused(copy):
    rewrite(copy, format=99)
    with pytest.raises(BadInput, match="wanted a bundle of format 1, found format 99; export it"):
        open_bundle(copy)


def test_a_bundle_with_another_encoder_is_refused(copy):
    about = json.loads((copy / "encoder/encoder.json").read_text())
    about["scales"][0]["mean"] += 1.0
    write_json(copy / "encoder/encoder.json", about)
    rewrite(copy)
    with pytest.raises(BadInput, match=r"encoder: wanted .* found .*; ship the encoder"):
        open_bundle(copy)


def test_the_digest_is_of_the_files_not_of_the_place(exported, copy, bundle):
    assert bundle_digest(copy) == bundle_digest(exported) == bundle.digest == digest(manifest(exported)["files"])
    spoil_graph(copy)
    rewrite(copy)
    assert bundle_digest(copy) != bundle.digest


def test_the_graph_tells_nothing_of_the_machine_that_wrote_it(exported):
    data = (exported / GRAPH).read_bytes()
    assert b".py" not in data
    assert b"metadata" not in data


def test_the_graph_needs_no_file_beside_it(exported):
    assert sorted(path.name for path in exported.iterdir()) == sorted(["encoder", MANIFEST, GRAPH, REQUEST])

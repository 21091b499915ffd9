"""The student in other servers' forms scores as in torch, and none of them holds a pickle."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import small_batch, small_layout

from recdistill.bundle import GRAPH
from recdistill.config.student import Student
from recdistill.models.build import build
from recdistill.problems import BadInput
from recdistill.ship.as_mlflow import as_mlflow
from recdistill.ship.as_pt2 import as_pt2
from recdistill.ship.as_triton import as_triton
from recdistill.ship.forms import write_form
from recdistill.ship.onnx_graph import to_onnx
from recdistill.ship.quantise import quantise

LAYOUT = small_layout(num_items=200)
BATCH = small_batch(LAYOUT)


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    whole = build(LAYOUT, Student(width=8, tower=[8]), (), {}).eval()
    return quantise(whole, {"item": 4, "tags": 8})


@pytest.fixture(scope="module")
def wanted(student):
    with torch.no_grad():
        return student(BATCH.ids, BATCH.dense).logit.numpy()


@pytest.fixture(scope="module")
def bundle(student, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    to_onnx(student, LAYOUT, folder / GRAPH)
    return folder


def test_a_triton_repository_names_what_the_graph_takes_and_gives(bundle, wanted, tmp_path):
    as_triton(bundle, "shop-student", tmp_path / "repository")
    root = tmp_path / "repository/shop-student"
    config = (root / "config.pbtxt").read_text()
    assert 'name: "shop-student"' in config
    assert 'backend: "onnxruntime"' in config
    session = onnxruntime.InferenceSession(root / "1/model.onnx")
    told = dict(re.findall(r'name: "(\w+)", data_type: TYPE_\w+, dims: \[ ([\d, ]+) \]', config))
    assert told == {"ids": "13", "dense": "1", "logit": "1"}
    assert {node.name: node.shape[1:] for node in session.get_inputs()} == {"ids": [13], "dense": [1]}
    assert config.count("reshape: { shape: [ ] }") == len(session.get_outputs()) == 1
    (found,) = session.run(["logit"], {"ids": BATCH.ids.numpy(), "dense": BATCH.dense.numpy()})
    assert np.abs(found - wanted).max() < 1e-5


def test_a_program_of_torch_export_holds_no_pickle_and_scores_any_number_of_rows(student, wanted, tmp_path):
    as_pt2(student, LAYOUT, tmp_path / "student.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["student.pt2"]
    with zipfile.ZipFile(tmp_path / "student.pt2") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert any(name.endswith("models/model.json") for name in contents)
    for name, data in contents.items():
        assert not (name.endswith((".pt", ".pkl")) and data), name
        assert not data.startswith(b"PK"), name  # a torch.save inside
        assert b".py" not in data, name
    program = torch.export.load(tmp_path / "student.pt2").module()
    for rows in (1, len(BATCH)):
        found = program(BATCH.ids[:rows], BATCH.dense[:rows]).detach().numpy()
        assert np.abs(found - wanted[:rows]).max() < 1e-6


def test_an_mlflow_model_is_one_graph_and_text(bundle, wanted, tmp_path):
    as_mlflow(bundle, tmp_path / "out")
    model = tmp_path / "out/model"
    names = {path.name for path in model.iterdir()}
    assert names == {"MLmodel", "model.onnx", "conda.yaml", "python_env.yaml", "requirements.txt"}
    assert "recdistill" not in (model / "requirements.txt").read_text()
    session = onnxruntime.InferenceSession(model / "model.onnx")
    (found,) = session.run(["logit"], {"ids": BATCH.ids.numpy(), "dense": BATCH.dense.numpy()})
    assert np.abs(found - wanted).max() < 1e-5


@pytest.mark.parametrize("form", ["triton", "mlflow", "pt2"])
def test_what_is_not_such_an_export_is_never_replaced(form, bundle, tmp_path, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr("recdistill.ship.forms.open_bundle", lambda folder: SimpleNamespace(folder=bundle))
    (tmp_path / "export.json").write_text(json.dumps({"shipped": "student-0"}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years")
    with pytest.raises(BadInput, match="wanted a new path for"):
        write_form(None, {"export": tmp_path}, form, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").read_text() == "years"


@pytest.mark.slow
def test_mlflow_serves_the_model_without_recdistill_and_without_pickles(bundle, wanted, tmp_path):
    """A real `mlflow models serve`, in a folder where recdistill cannot be imported."""
    as_mlflow(bundle, tmp_path / "out")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    bin_folder = Path(sys.executable).parent
    settings = {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(_no_recdistill(tmp_path / "shadow")),
    }
    command = [bin_folder / "mlflow", "models", "serve", "-m", tmp_path / "out/model", "-p", str(port)]
    log = (tmp_path / "serve.log").open("w")
    server = subprocess.Popen(
        [*command, "--env-manager", "local"], env=settings, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
    )
    try:
        body = json.dumps({"inputs": {"ids": BATCH.ids.tolist(), "dense": BATCH.dense.tolist()}}).encode()
        answer = _answer(f"http://127.0.0.1:{port}", body, server)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    assert np.abs(np.array(answer["predictions"]["logit"]) - wanted).max() < 1e-5, (tmp_path / "serve.log").read_text()


def _no_recdistill(folder):
    """A folder for PYTHONPATH in which recdistill is a module that cannot be imported."""
    folder.mkdir()
    (folder / "recdistill.py").write_text("raise ImportError('no recdistill here')\n")
    return folder


def _answer(url, body, server):
    for _ in range(240):
        assert server.poll() is None
        try:
            with urllib.request.urlopen(f"{url}/ping", timeout=2):
                break
        except OSError:
            time.sleep(0.5)
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())

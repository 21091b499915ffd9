"""When a server is ready: with a bundle that is whole, in all of its processes."""

import asyncio

import numpy as np
import pytest
from serve_world import (
    get,
    make_bundle,
    post,
    reseal,
    server,
    wait,
)

from recdistill.bundle import GRAPH
from recdistill.serve.app import App
from recdistill.serve.live import Live
from recdistill.serve.settings import Settings
from recdistill.serve.store import Current, pointer, write_current


@pytest.fixture(scope="module")
def bundle(tiny_prepared, tmp_path_factory):
    return make_bundle(tiny_prepared, tmp_path_factory.mktemp("bundle") / "student-0")


def spoiled(bundle, folder, change):
    """A copy of a bundle after `change(copy)`, its manifest made true again."""
    import shutil

    shutil.copytree(bundle, folder)
    change(folder)
    reseal(folder)
    return folder


def not_a_number(folder):
    import onnx

    model = onnx.load(folder / GRAPH)
    table = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2 and "tables" in tensor.name)
    values = onnx.numpy_helper.to_array(table).copy()
    values[3] = np.nan
    table.CopyFrom(onnx.numpy_helper.from_array(values, table.name))
    onnx.save(model, folder / GRAPH)


def weights_elsewhere(folder):
    import onnx

    model = onnx.load(folder / GRAPH)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../../../etc/passwd"
    (folder / GRAPH).write_bytes(model.SerializeToString())


def planted(folder):
    import pickle

    class Payload:
        def __reduce__(self):
            return open, (str(folder.parent / "ran"), "w")

    (folder / "encoder" / "extra.pkl").write_bytes(pickle.dumps(Payload()))


def cut_short(folder):
    (folder / GRAPH).write_bytes((folder / GRAPH).read_bytes()[:-2000])


SPOILERS = [not_a_number, weights_elsewhere, planted, cut_short]


@pytest.mark.parametrize("change", SPOILERS, ids=lambda change: change.__name__)
def test_a_spoiled_bundle_is_never_ready(bundle, tmp_path, change):
    folder = spoiled(bundle, tmp_path / "spoiled", change)
    with (
        open(tmp_path / "log", "w") as log,
        server(folder, "--workers", 1, "--state", tmp_path / "state", ready=False, stderr=log) as (address, _),
    ):
        wait(lambda: "is not served" in (tmp_path / "log").read_text())
        assert get(address, "/health/ready")[0] == 503
        assert get(address, "/health/live")[0] == 200
        assert post(address, {"user": {}, "items": [1]})[0] == 503
    assert not (tmp_path / "ran").exists()
    assert "root:" not in (tmp_path / "log").read_text()


def test_a_server_is_ready_when_all_of_its_processes_are(bundle, tmp_path):
    """A caller does not choose the process that answers, so one with a model is not enough."""
    loaded, state = tmp_path / "loaded", tmp_path / "state"
    loaded.mkdir()
    write_current(state, Current(champion=pointer(bundle, "1"), challenger=None))
    settings = Settings(name="shop", state=str(state), socket=3, processes=2, loaded=str(loaded))
    live = Live(settings)

    def status():
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/health/ready", "headers": [], "query_string": b""}
        asyncio.run(App(live, settings)(scope, None, send))
        return sent[0]["status"]

    assert status() == 503
    live.refresh()
    assert live.model is not None
    assert status() == 503, "the other process has none"
    (loaded / "4").touch()
    assert status() == 200

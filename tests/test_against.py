"""Two real runs: the second faces the first by file, by seed and by slice, and later the frozen one; all in MLflow."""

import json
import re
import shutil

import mlflow
import pytest
import yaml
from conftest import make_run

from recdistill.files import read_json
from recdistill.pipeline import run_all
from recdistill.promotion.gate_table import TABLE
from recdistill.promotion.registry import open_registry
from recdistill.result import result, tables

pytestmark = pytest.mark.slow
LENIENT = {"floors": {}, "control_margin": -1.0, "champion_margin": 1.0, "max_ece": 1.0, "max_parameter_share": 1.0}
LIMITS = {"max_bytes": 10**7, "max_p99_ratio": 1e6, "denied": ["gender"], "reference_margin": 1.0}
SLICES = {"slices": ["new_users", "tail", "hour", "country"], "slice_margin": 1.0, "slice_users": 5}


@pytest.fixture(scope="module")
def champions(tiny_log, _migrated, tmp_path_factory):
    """(root, decision of the first run, decision of the second), the first being the reference."""
    root = tmp_path_factory.mktemp("against")
    shutil.copy(_migrated, root / "mlflow.db")
    first = run_all(variant(tiny_log, root))
    registry = open_registry(variant(tiny_log, root))
    registry.client.set_registered_model_alias(registry.model, "reference", "1")
    second = run_all(variant(tiny_log, root, seed=5))
    return root, *(read_json(done.folders["decide"] / "decision.json") for done in (first, second))


def variant(log, root, **changes):
    gates = {**LENIENT, **LIMITS, **SLICES, **changes.pop("gates", {})}
    return make_run(log, root, gates=gates, **changes)


def verdicts(decision):
    return {gate["name"]: gate["verdict"] for gate in decision["gates"]}


def test_the_first_has_no_baseline_and_passes_all_else(champions):
    _, first, second = champions
    assert first["verdict"] == second["verdict"] == "PASS"
    found = verdicts(first)
    none = {name for name, verdict in found.items() if verdict == "NO_BASELINE"}
    assert none == {"auc over champion, low end", "auc over reference, low end"}
    assert {"bytes of the bundle", "p99 over the reference graph's", "feature policy"} < found.keys()
    assert first["p99_ratio"] > 0


def test_the_second_is_judged_in_every_slice(champions):
    found = verdicts(champions[2])
    slices = {one["name"]: one for one in champions[2]["champion"]["slices"]}
    assert {"new_users", "tail", "hour 03"} < slices.keys()
    assert any(name.startswith("country ") for name in slices)
    for name, one in slices.items():
        assert (one["difference"] is None) == (one["users"] < SLICES["slice_users"])
        assert f"auc in {name}, low end" in found
    hours = [one for name, one in slices.items() if name.startswith("hour ")]
    assert sum(one["rows"] for one in hours) > 500


def test_superiority_takes_the_seeds_of_both_and_an_identical_one_is_not_superior(champions, tiny_log):
    root = champions[0]
    run = variant(tiny_log, root, seed=9, gates={"superior": True, "champion_margin": 1.0})
    done = run_all(run)
    champion = read_json(done.folders["decide"] / "decision.json")["champion"]
    assert champion["version"] == 2
    assert champion["num_seeds"] == [2, 2]
    value, low, high = champion["beyond_seeds"]
    assert low < value < high
    shown = tables(result(run, done.folders))
    assert re.search(r"auc beyond seeds, low end .*\(2 seeds against 2\)", shown)
    decision = read_json(done.folders["decide"] / "decision.json")
    assert decision["reference"]["version"] == 1
    assert verdicts(decision)["auc over reference, low end"] == "PASS"
    assert run_all(run).did == ()  # though the reference may be frozen anew, what was judged stays so


def test_the_decision_is_a_table_in_mlflow_once(champions, tiny_log, monkeypatch):
    root, _, second = champions
    registry = open_registry(variant(tiny_log, root))
    run_id = registry.version(2).run_id
    path = registry.client.download_artifacts(run_id, TABLE, str(root))
    with open(path) as file:
        table = json.load(file)
    assert table["columns"] == ["name", "wanted", "found", "verdict"]
    assert [line[0] for line in table["data"]] == [gate["name"] for gate in second["gates"]]
    mlflow.set_tracking_uri(registry.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", registry.client.get_run(run_id).info.experiment_id)  # load_table's own
    assert len(mlflow.load_table(TABLE, run_ids=[run_id])) == len(second["gates"])
    names = {found.path for found in registry.client.list_artifacts(run_id, "seeds")}
    assert {"seeds/student-0.onnx", "seeds/student-1.onnx"} < names


def test_freeze_names_the_reference_and_refuses_a_version_that_is_not_there(champions, tiny_log, tmp_path, call):
    root = champions[0]
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(variant(tiny_log, root).model_dump(mode="json")))
    status, _, said = call("freeze", config, "77")
    assert (status, "wanted version 77" in said) == (2, True)
    status, out, _ = call("freeze", config, "2")
    assert (status, out.splitlines()[-1]) == (0, "tiny-student: reference is version 2")
    registry = open_registry(variant(tiny_log, root))
    assert int(registry.aliased("reference").version) == 2

"""lineage.py, explain.py, reproduce.py: what a version was made of, told from MLflow alone, and made again."""

import json
import shutil

import pytest
import yaml
from conftest import make_run, the_line
from promotion_world import PROMOTION, candidate, opened, register, uploaded

from recdistill.config.load import load
from recdistill.data.prepare import open_checked
from recdistill.files import read_json, write_json
from recdistill.pipeline import run_all
from recdistill.problems import BadInput
from recdistill.promotion import promote
from recdistill.promotion.explain import explain
from recdistill.promotion.lineage import LINEAGE, code_of, read_lineage
from recdistill.promotion.registry import open_registry
from recdistill.promotion.reproduce import remake, write_config


@pytest.fixture
def published(tiny_log, mlflow_uri, tmp_path, monkeypatch):
    """(run, registry, log) of two champions, the second with a lineage on a log of its own."""
    monkeypatch.setattr(promote, "log_run", uploaded)
    log = tmp_path / "log"
    shutil.copytree(tiny_log, log)
    registry = opened(tmp_path)
    registry.promote(register(registry, "aa"), why="first", key="first")
    run, inputs, out = candidate(tmp_path, "bb", "1")
    data = read_json(inputs["prepare"] / "data.json")
    write_json(inputs["prepare"] / "data.json", {**data, "fingerprint": open_checked(run).fingerprint})
    promote.publish(run, inputs, out)
    return run, registry, log


def test_a_version_is_explained_from_mlflow_alone(published):
    run, registry, _ = published
    found = explain(registry, 2)
    assert found["is"] == ["champion"]
    assert (found["baseline"], found["predecessor"], found["verdict"]) == ("1", 1, "PASS")
    assert found["window"] == ["2023-11-14 22:13:20+00:00", "2023-11-21 20:53:20+00:00"]
    assert found["fingerprint"] == open_checked(run).fingerprint
    assert found["config"] == run.model_dump(mode="json")
    assert found["code"] == code_of(run)
    assert set(found["code"]) == {"prepare", "train_teacher", "score", "distil", "export"}
    assert [event.action for event in found["events"]] == ["promote"]
    first = explain(registry, 1)
    assert (first["is"], first["config"], first["predecessor"]) == (["previous_champion"], None, None)
    with pytest.raises(BadInput, match="wanted version 9"):
        explain(registry, 9)


def test_the_commands_say_it(published, call, tmp_path):
    run, _, _ = published
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(run.model_dump(mode="json")))
    status, out, _ = call("explain", config, "2")
    assert status == 0
    for words in ("version 2", "champion", "judged against  version 1", "replaced        version 1", "verdict"):
        assert words in out
    status, out, _ = call("explain", config, "2", "--json")
    assert json.loads(out)["events"][0]["version"] == 2
    status, out, _ = call("reproduce", config, "2")
    assert (status, out.splitlines()[-1].endswith("gives the bundle bb")) == (0, True)
    again = load(tmp_path / "run-reproduced" / "tiny-student-2.yaml")
    assert again.model_copy(update={"root": run.root}) == run
    assert call("history", config)[0] == 0


def test_other_data_code_and_packages_are_all_refused_at_once(published, tmp_path):
    _, registry, log = published
    version = registry.version(2)
    kept = read_lineage(registry, version)
    kept["code"]["distil"], kept["packages"]["torch"] = "0" * 64, "1.0"
    registry.client.log_dict(version.run_id, kept, LINEAGE)
    sorted(log.rglob("*.parquet"))[-1].unlink()
    with pytest.raises(BadInput) as caught:
        write_config(registry, 2, tmp_path / "again")
    assert len(caught.value.problems) == 3
    the_line(caught.value.problems, "found no such file; restore the file")
    (log / "_manifest.json").unlink()
    with pytest.raises(BadInput) as caught:
        write_config(registry, 2, tmp_path / "again")
    assert len(caught.value.problems) == 3
    the_line(caught.value.problems, "fingerprint", "put the log back as it was")
    the_line(caught.value.problems, "other code of distil", "use the code that made it")
    the_line(caught.value.problems, "wanted torch 1.0")
    assert not (tmp_path / "again").exists()
    with pytest.raises(BadInput, match=r"wanted lineage.json with its run, found none"):
        write_config(registry, 1, tmp_path / "again")


def test_the_code_of_a_bundle_is_not_that_of_promotion():
    assert PROMOTION.endswith("promotion")
    from recdistill.code import ROOT, closure
    from recdistill.promotion.lineage import STEPS

    files = {path.relative_to(ROOT).parts[0] for path in closure(*(ROOT / path for path in STEPS.values()))}
    assert {"data", "train", "models", "ship"} <= files
    assert "promotion" not in files


@pytest.mark.slow
def test_a_reproduced_bundle_has_the_same_sha256(tiny_log, mlflow_uri, tmp_path):
    run = make_run(tiny_log, tmp_path, gates={"floors": {"auc": 0.3}, "control_margin": -1.0, "max_ece": 1.0})
    done = run_all(run)
    wanted = read_json(done.folders["export"] / "export.json")["bundle_sha256"]
    path = write_config(open_registry(run), 1, tmp_path / "again")
    assert remake(load(path)) == wanted

"""What a plan says is what the run then has: rows, tables, bytes; and it leaves nothing behind."""

import json

import numpy as np
import pytest

from recdistill.config.score import Score
from recdistill.data.store import open_rows
from recdistill.pipeline import run_all
from recdistill.plan import plan_run

DCNV2 = {"use": "dcnv2", "layers": 2, "hidden": [8]}


@pytest.fixture
def no_history(tiny_run):
    """A builder: a run whose teacher reads item, country, two categories and a price, 4 wide."""

    def build(**teacher):
        features = {"ids": ["item_id", "country", {"column": "categories", "max_values": 2}]}
        features |= {"dense": [{"column": "price", "transform": "log1p"}], "history": None}
        return tiny_run(features=features, teacher={"width": 4, "interaction": DCNV2, **teacher})

    return build


def test_a_plan_says_what_prepare_then_makes_and_writes_nothing(tiny_run, tmp_path):
    run = tiny_run()
    before = sorted(tmp_path.rglob("*"))
    found = plan_run(run, probe=False)
    assert sorted(tmp_path.rglob("*")) == before
    folder = run_all(run, until="prepare").folders["prepare"]
    windows = {name: open_rows(folder, name) for name in ("train", "valid", "test")}
    assert not found.is_prepared
    assert found.found.num_rows == {name: len(rows) for name, rows in windows.items()}
    assert found.found.layout == windows["train"].layout
    again = plan_run(run, probe=False)
    assert again.is_prepared
    assert again.found == found.found
    assert again.disk_bytes == found.disk_bytes


def test_the_disk_of_rows_and_events_is_what_prepare_then_writes(tiny_run):
    run = tiny_run()
    found = plan_run(run, probe=False).disk_bytes
    folder = run_all(run, until="prepare").folders["prepare"]
    for name, wanted in (("rows", found["rows"]), ("events", found["events"])):
        assert sum(np.load(path).nbytes for path in (folder / name).rglob("*.npy")) == wanted > 0
    parts = sum(path.stat().st_size for path in (folder.parent / "parts").rglob("rows-*.arrow"))
    assert 0 < parts <= found["parts"] * 1.2  # Arrow's own words in files this small


def test_operations_of_the_dense_layers_are_those_of_their_matrices(no_history):
    (kind,) = plan_run(no_history(), probe=False).kinds
    width = 3 * 4 + 1
    products = 2 * width * width + width * 8 + (width + 8) * 1
    assert kind.cost.forward == 2 * products
    assert kind.cost.training == 3 * kind.cost.forward
    assert kind.cost.parameters == products + 2 * width + 8 + 1
    assert kind.cost.activation_bytes > 0


def test_a_score_store_takes_what_the_config_keeps_of_a_row(no_history):
    hidden = 3 * 4 + 1 + 8
    rows = sum(plan_run(no_history(), probe=False).found.num_rows.values())
    sizes = {"none": 12, "float16": 12 + 2 * hidden, "int8": 12 + hidden + 4}
    for kind, wanted in sizes.items():
        run = no_history().model_copy(update={"score": Score(hidden=kind)})
        assert plan_run(run, probe=False).disk_bytes["scores"] == rows * wanted


def test_several_processes_share_the_tables_and_the_batch(no_history):
    one, two = (plan_run(no_history(ranks=ranks), probe=False) for ranks in (1, 2))
    assert [len(plan.kinds[0].rank_bytes) for plan in (one, two)] == [1, 2]
    numbers = [sum(part.rows * part.columns for part in plan.kinds[0].parts) for plan in (one, two)]
    assert numbers == [sum(one.found.layout.tables.values()) * 4] * 2
    assert {part.rank for part in two.kinds[0].parts} == {0, 1}
    assert max(two.kinds[0].rank_bytes) < one.kinds[0].rank_bytes[0]


def test_every_teacher_of_an_ensemble_counts(no_history):
    one = plan_run(no_history(), probe=False)
    many = plan_run(no_history(members=3, ensemble=[{}, {"width": 8}]), probe=False)
    assert [kind.num for kind in many.kinds] == [3, 3]
    assert [kind.settings.width for kind in many.kinds] == [4, 8]
    assert many.disk_bytes["teachers"] > 6 * one.disk_bytes["teachers"]


def test_a_probe_tells_how_long_it_takes(no_history):
    run = no_history(epochs=3, batch_size=256)
    found = plan_run(run, probe=True)
    speed, rows = found.kinds[0].speed, found.found.num_rows
    assert speed.num_steps >= 2
    assert found.epoch_s == pytest.approx(rows["train"] / speed.train_rows_per_s)
    scored = 3 * rows["valid"] + sum(rows.values())
    assert found.whole_s == pytest.approx(3 * found.epoch_s + scored / speed.score_rows_per_s)


@pytest.fixture
def config(tiny_run, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(tiny_run().model_dump_json())
    return path


def test_the_command_ends_with_one_json_object(call, config):
    status, out, _ = call("plan", config, "--no-probe")
    found = json.loads(out.splitlines()[-1])
    assert status == 0
    assert found["epoch_s"] is found["teachers"][0]["speed"] is None
    assert f"train {found['rows']['train']:,}" in out
    assert all(table in out for table in found["tables"])


def test_the_command_refuses_what_the_run_would_refuse(call, config):
    status, out, err = call("plan", config, "--no-probe", "data.user=nobody")
    assert status == 2
    assert not out
    assert "column nobody: wanted such a column" in err
    assert call("plan", config, "teacher.width=0")[0] == 2

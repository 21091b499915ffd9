"""A teacher is trained as its section says: optimisers, a batch in parts, one pass, a warm start, too little memory."""

import math
import os
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest
import torch
import yaml
from conftest import make_run

from recdistill.config.load import load
from recdistill.data.encoder import Encoder
from recdistill.data.store import open_rows
from recdistill.data.tables import Vocabulary
from recdistill.files import whole_folder
from recdistill.pipeline import run_all
from recdistill.problems import BadInput
from recdistill.train.predict import save_weights, weights_name
from recdistill.train.teachers.fit import build_teacher, fit_teacher, identity, sharded_teacher
from recdistill.train.teachers.optimisers import embedding_optimiser
from recdistill.train.teachers.shard import plain_state, world
from recdistill.train.teachers.warm import ENCODER, folder_digest, warm_start

CPU = torch.device("cpu")


@pytest.fixture
def fit(tiny_prepared, tiny_log, tmp_path):
    """Train on the tiny log with changed settings: fit(epochs=2) -> Trained."""

    def train(snapshots=None, seed=1, **settings):
        teacher = section(tiny_log, tmp_path, **settings)
        with world(CPU) as here:
            return fit_teacher("teacher", teacher, seed, tiny_prepared, here, snapshots)

    return train


def section(log, root, **settings):
    return make_run(log, root, teacher={"bf16": "off", **settings}).teacher


def losses(trained):
    return [check.losses["loss"] for check in trained.curve]


@pytest.mark.parametrize("name", ["rowwise_adagrad", "adagrad", "sgd"])
@pytest.mark.parametrize("dense", ["adam", "adamw"])
def test_every_optimiser_that_a_cpu_has_learns(fit, name, dense):
    rate = 30.0 if name == "sgd" else 0.1
    trained = fit(embedding_optimiser=name, optimiser=dense, embedding_learning_rate=rate, epochs=3, patience=3)
    assert losses(trained)[-1] < losses(trained)[0]
    assert trained.best.valid_auc > 0.55


@pytest.mark.parametrize("name", ["adam", "partial_rowwise_adam"])
def test_an_optimiser_that_a_cpu_has_not_is_refused_with_those_it_has(fit, name):
    wanted = "one that FBGEMM has on a CPU: rowwise_adagrad, adagrad, sgd"
    with pytest.raises(
        BadInput, match=f"teacher.embedding_optimiser: wanted {wanted}, found {name}; take one of these"
    ):
        fit(embedding_optimiser=name)
    assert embedding_optimiser(name, torch.device("cuda")) is not None


def test_the_rate_of_the_tables_follows_its_own_schedule(fit):
    """Held at nothing from the start on, they stay as they were drawn; the dense layers do not."""
    still = fit(embedding_learning_rate=1e-12)
    moved = fit(embedding_learning_rate=1e-12, embedding_schedule="linear")
    fast = fit(embedding_learning_rate=0.5)
    slower = fit(embedding_learning_rate=0.5, embedding_schedule="linear")
    table = next(name for name in still.weights if ".item_id." in name)
    assert torch.allclose(still.weights[table], moved.weights[table])

    def way(trained):
        return (trained.weights[table] - still.weights[table]).norm()

    assert way(slower) < way(fast)
    assert way(slower) > 0.1


@pytest.mark.parametrize("parts", [2, 50])
def test_a_batch_in_parts_is_the_step_of_the_whole_batch(fit, parts):
    """Adagrad in two small steps would move by the sum of two normalised gradients instead."""
    whole, split = fit(batch_size=600), fit(batch_size=600, accumulate=parts)
    assert losses(split) == pytest.approx(losses(whole), rel=1e-5)
    assert whole.weights.keys() == split.weights.keys()
    for name, value in whole.weights.items():
        assert torch.allclose(split.weights[name], value, atol=2e-4), name


def test_halves_of_a_batch_as_steps_of_their_own_are_another_training(fit):
    """What the test above would not notice if a part were a step."""
    whole, halves = fit(batch_size=600), fit(batch_size=300)
    table = next(name for name in whole.weights if ".item_id." in name)
    assert not torch.allclose(halves.weights[table], whole.weights[table], atol=1e-2)


def test_one_pass_scores_every_row_before_it_learns_from_it_and_keeps_the_last_weights(fit, tiny_prepared):
    trained = fit(one_pass=True, epochs=1, checks_per_epoch=4, patience=1, batch_size=128)
    rows = len(open_rows(tiny_prepared, "train"))
    assert len(trained.curve) == 4
    assert trained.best is trained.curve[-1]
    assert trained.curve[-1].step == math.ceil(rows / 128)
    assert all(0.4 < check.progressive_auc < 0.8 for check in trained.curve)
    assert trained.curve[-1].progressive_auc > trained.curve[0].progressive_auc


def test_several_epochs_of_one_pass_are_refused(tiny_log, tmp_path):
    with pytest.raises(ValueError, match="epochs: wanted 1 beside one_pass, found 3; write epochs: 1"):
        section(tiny_log, tmp_path, one_pass=True, epochs=3)


def test_with_snapshots_or_without_the_weights_are_the_same(fit, tmp_path):
    plain = fit(epochs=2, patience=2, one_pass=False)
    kept = fit(tmp_path / "snapshots", epochs=2, patience=2, snapshot_every=3, snapshots_kept=1)
    assert plain.snapshots is None
    assert kept.snapshots.parent == tmp_path / "snapshots"
    assert plain.weights.keys() == kept.weights.keys()
    assert all(torch.equal(value, kept.weights[name]) for name, value in plain.weights.items())


def test_an_average_of_weights_is_what_is_judged_and_kept(fit):
    plain, averaged = fit(), fit(ema=0.99)
    name = "head.out.weight" if "head.out.weight" in plain.weights else next(n for n in plain.weights if "head" in n)
    table = next(n for n in plain.weights if ".item_id." in n)
    assert not torch.equal(plain.weights[name], averaged.weights[name])
    assert torch.equal(plain.weights[table], averaged.weights[table])
    assert averaged.best.valid_auc > 0.5


def test_an_absurd_rate_ends_in_bad_input_and_never_in_weights(fit, tmp_path):
    with pytest.raises(BadInput, match=r"^teacher: steps? [\d to]+: wanted (a finite loss|dense layers that move)"):
        fit(tmp_path / "snapshots", learning_rate=1e9, epochs=9, snapshot_every=2)
    assert not list(tmp_path.glob("snapshots/*/step-*"))


def test_only_what_bits_depend_on_is_the_identity_of_a_training(tiny_log, tiny_prepared, tmp_path):
    def told(seed=1, **settings):
        return identity(section(tiny_log, tmp_path, **settings), seed, tiny_prepared, CPU)

    assert told() == told(snapshot_every=7, snapshots_kept=5, step_timeout_s=9, ranks=2, members=3)
    assert told() != told(learning_rate=0.5)
    assert told() != told(seed=2)
    assert len(told()["vocabulary"]) == len(told()["data"]) == 64
    assert told()["vocabulary"] != told()["data"]


# A warm start


@pytest.fixture
def yesterday(fit, tiny_prepared, tmp_path):
    """A finished train_teacher folder, and its weights."""
    trained = fit()
    with whole_folder(tmp_path / "train_teacher-old", {"step": "train_teacher", "key": "k"}) as out:
        save_weights(trained.weights, out / weights_name(0))
        shutil.copytree(tiny_prepared / "encoder", out / ENCODER)
    return tmp_path / "train_teacher-old", trained.weights


def test_a_warm_start_on_the_same_vocabulary_begins_with_the_same_weights(fit, yesterday, tmp_path):
    folder, weights = yesterday
    still = {"learning_rate": 1e-12, "embedding_learning_rate": 1e-12}
    warm = fit(warm_start=str(folder), seed=5, **still)
    for name, value in warm.weights.items():
        assert torch.allclose(value, weights[name], atol=1e-6), name


def test_rows_follow_their_values_into_a_vocabulary_that_grew_and_was_reordered(
    yesterday, tiny_prepared, tiny_log, tmp_path
):
    """The new vocabulary: the old one backwards without its last value, with two values more, one of them in front."""
    folder, weights = yesterday
    encoder = Encoder.open(tiny_prepared / "encoder")
    old = encoder.tables["item_id"].values.to_pylist()
    values = [max(old) + 7, *old[-2::-1], max(old) + 9]
    changed = encoder.layout.to_json()
    for feature in changed["ids"]:
        if feature["table"] == "item_id":
            feature["num_rows"] = len(values) + 2
    layout = type(encoder.layout).from_json(changed)
    tables = {**encoder.tables, "item_id": Vocabulary(name="item_id", values=pa.array(values))}
    with world(CPU):
        torch.manual_seed(9)
        settings = section(tiny_log, tmp_path)
        model = sharded_teacher(build_teacher(settings, layout), settings, CPU)
        fresh = plain_state(model)
        warm_start(model, type(encoder)(**{**vars_of(encoder), "layout": layout, "tables": tables}), folder)
        found = plain_state(model)
    name = next(n for n in found if ".item_id." in n)
    assert len(values) == len(old) + 1
    for row, value in enumerate(values, start=2):
        wanted = weights[name][2 + old.index(value)] if value in old else fresh[name][row]
        assert torch.equal(found[name][row], wanted), value
    assert torch.equal(found[name][:2], weights[name][:2])  # absent and unknown
    for other in found.keys() - {name}:
        assert torch.equal(found[other], weights[other]), other


def vars_of(encoder):
    return {name: getattr(encoder, name) for name in type(encoder).__dataclass_fields__}


def test_layers_of_other_shapes_are_refused_each_in_a_line(fit, yesterday):
    with pytest.raises(BadInput) as caught:
        fit(warm_start=str(yesterday[0]), interaction={"use": "dcnv2", "layers": 1, "hidden": [17]})
    assert len(caught.value.problems) >= 2
    assert all("; warm-start a teacher of the same layers and features" in line for line in caught.value.problems)


def test_a_folder_that_is_no_teacher_is_refused(tmp_path, tiny_prepared):
    for folder, found in ((tmp_path, "no manifest"), (tiny_prepared, "one of step prepare")):
        with pytest.raises(BadInput, match=f"wanted a finished train_teacher folder, found {found}; give runs/NAME"):
            folder_digest(folder)


# Too little memory


LIMITED = """
import resource, sys
import torch, torchrec, recdistill.pipeline
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + 600 * 2**20, used + 600 * 2**20))
from recdistill.cli import main as cli
sys.argv = ["recdistill", "train-teacher", sys.argv[1], *sys.argv[2:]]
cli.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
@pytest.mark.parametrize("what", ["tables", pytest.param("activations", marks=pytest.mark.slow)])
def test_too_little_memory_is_one_message_with_what_takes_it_and_status_2(tiny_log, tmp_path, what):
    """The real command under a limit of the system's, 600 MiB above what the libraries take."""
    config = make_run(tiny_log, tmp_path).model_dump(mode="json", exclude_unset=True)
    if what == "tables":
        config["features"]["ids"][1] = {"column": "country", "hash_buckets": 30_000_000}
    else:
        config["teacher"] |= {"batch_size": 4096, "interaction": {"use": "dcnv2", "layers": 1, "hidden": [60_000]}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    run_all(load(tmp_path / "run.yaml"), until="prepare")
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "run.yaml"), "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("teacher: ")]
    assert "Traceback" not in done.stderr
    assert "wanted memory for tables and optimisers of " in lines[0]
    assert "; make teacher.batch_size, teacher.width or the largest table smaller" in lines[0]
    parts = lines[1:]
    assert [part.split(":")[1].split(",")[0].strip() for part in parts][-3:] == [
        "state of rowwise_adagrad of all tables",
        "dense layers",
        "all else",
    ]
    if what == "tables":
        assert parts[0].strip() == "teacher:   table country, 30,000,002 rows of 8: 916 MiB"
    assert not list((tmp_path / "run").glob("train_teacher-*"))

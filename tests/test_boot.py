"""A candidate is booted as it would be served: one that answers passes, and each way not to answer says why."""

import shutil

import pyarrow as pa
import pytest
from serve_world import make_bundle, reseal

from recdistill.bundle import open_bundle
from recdistill.promotion.boot import boot
from recdistill.promotion.policy import denied_of
from recdistill.ship.golden import GOLDEN


@pytest.fixture(scope="module")
def made(tiny_prepared, tmp_path_factory):
    """A bundle with 70 golden requests. Shared: only read it."""
    return make_bundle(tiny_prepared, tmp_path_factory.mktemp("made") / "bundle", golden=70)


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it to change."""
    return shutil.copytree(made, tmp_path / "bundle")


@pytest.mark.slow
def test_a_real_server_in_a_child_process_answers_every_golden_request(made):
    assert boot(made) == {"answered": 70}


@pytest.mark.slow
def test_one_wrong_golden_score_is_found_by_the_server_itself(folder):
    with pa.ipc.open_file(str(folder / GOLDEN)) as reader:
        table = reader.read_all()
    scores = table.column("score").to_pylist()
    scores[7] += 0.01
    table = table.set_column(table.schema.get_field_index("score"), "score", pa.array(scores, pa.float32()))
    with pa.ipc.new_file(str(folder / GOLDEN), table.schema) as writer:
        writer.write_table(table)
    reseal(folder)
    assert "golden request 7" in boot(folder)["error"]


@pytest.mark.slow
def test_a_server_that_does_not_come_up_in_time_is_given_up(made):
    assert "server" in boot(made, deadline_s=0.01)["error"]


def test_a_bundle_without_golden_requests_is_not_even_booted(folder):
    (folder / GOLDEN).unlink()
    reseal(folder)
    assert "wanted golden requests, found none" in boot(folder)["error"]


def test_a_bundle_with_a_changed_byte_is_not_even_booted(folder):
    with (folder / "student.onnx").open("ab") as file:
        file.write(b"\0")
    assert "sha256" in boot(folder)["error"]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["gender", "zip*"], []),
        (["country"], ["country"]),
        (["item_*"], ["item_id"]),
        (["price", "c*"], ["categories", "clicked", "country", "price"]),
        (["ids"], ["ids"]),  # an input of the graph
    ],
)
def test_the_policy_finds_what_a_bundle_asks_for(made, patterns, found):
    assert denied_of(open_bundle(made), patterns) == found

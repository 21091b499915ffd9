"""The score store gives every row its own score, and none of another's data or encoder."""

import dataclasses

import numpy as np
import pytest

from recdistill.data.scores import open_scores, write_scores
from recdistill.data.store import Rows, open_rows
from recdistill.files import read_json
from recdistill.problems import BadInput


@pytest.fixture
def rows(tiny_prepared) -> Rows:
    return open_rows(tiny_prepared, "valid")


@pytest.fixture
def about(tiny_prepared):
    data = read_json(tiny_prepared / "data.json")
    return {"teacher": "t" * 64, "fingerprint": data["fingerprint"], "encoder": data["encoder"]}


def reordered(rows, index):
    """These rows of the window alone."""
    return dataclasses.replace(rows, records=rows.records[index])


def half(rows):
    return (np.asarray(rows["row_id"]) * 0.5).astype(np.float32)


def test_scores_come_back_in_the_order_of_the_rows(rows, about, tiny_prepared, tmp_path):
    order = np.random.default_rng(0).permutation(len(rows))
    for index in (np.arange(len(rows)), order):
        mixed = reordered(rows, index)
        write_scores(tmp_path / "valid.arrow", mixed, half(mixed), about)
        assert (open_scores(tmp_path, "valid", rows, tiny_prepared) == half(rows)).all()
        assert (
            open_scores(tmp_path, "valid", reordered(rows, order[:7]), tiny_prepared) == half(rows)[order[:7]]
        ).all()


def test_a_row_without_a_score_is_told(rows, about, tiny_prepared, tmp_path):
    fewer = reordered(rows, np.arange(3, len(rows) - 2))
    write_scores(tmp_path / "valid.arrow", fewer, half(fewer), about)
    with pytest.raises(BadInput, match="wanted a score of every row, found 5 without; score again"):
        open_scores(tmp_path, "valid", rows, tiny_prepared)


@pytest.mark.parametrize("key", ["fingerprint", "encoder"])
def test_scores_of_other_data_or_another_encoder_are_refused(rows, about, tiny_prepared, tmp_path, key):
    for other in ({**about, key: "f" * 64}, {k: v for k, v in about.items() if k != key}):
        write_scores(tmp_path / "valid.arrow", rows, half(rows), other)
        with pytest.raises(BadInput, match=rf"valid\.arrow: {key}: wanted {about[key][:12]}, found .*; score again"):
            open_scores(tmp_path, "valid", rows, tiny_prepared)

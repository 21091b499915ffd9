"""The score store gives every row its own scores, and none of another's data, encoder or teacher."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from recdistill.data.batches import Batches
from recdistill.data.scores import finish_store, is_segment, open_scores, quantise, segment_path, write_segment
from recdistill.data.store import Rows, open_rows
from recdistill.files import read_json
from recdistill.problems import BadInput
from recdistill.types import Scores


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


def said(rows, width=3):
    """Scores that tell whose they are: half the row's number, and vectors that grow with it."""
    logit = torch.from_numpy(half(rows))
    steps = torch.arange(1, width + 1)
    hidden = torch.sin(logit.unsqueeze(1) * steps)
    return Scores(logit=logit, hidden=hidden, members=torch.stack([logit, -logit], dim=1), variance=logit.abs())


def write(folder, rows, about, *, size=100, kind="none", scores=None):
    folder.mkdir(parents=True, exist_ok=True)
    scores = said(rows) if scores is None else scores
    names = [field.name for field in dataclasses.fields(Scores) if getattr(scores, field.name) is not None]
    starts = range(0, len(rows), size)
    for number, start in enumerate(starts):
        part = Scores(**{name: getattr(scores, name)[start : start + size] for name in names})
        write_segment(folder, number, np.asarray(rows["row_id"])[start : start + size], part, kind, about)
    finish_store(folder, len(starts), about)


@pytest.mark.parametrize("size", [1, 100, 10**6])
def test_scores_come_back_in_the_order_of_the_rows(rows, about, tiny_prepared, tmp_path, size):
    order = np.random.default_rng(0).permutation(len(rows))[:150]
    rows = reordered(rows, np.arange(150))
    for number, index in enumerate((np.arange(150), order[order < 150], np.arange(149, -1, -1))):
        mixed = reordered(rows, np.concatenate([index, np.setdiff1d(np.arange(150), index)]))
        write(tmp_path / f"{number}/valid", mixed, about, size=size, kind="float16")
        for wanted in (rows, reordered(rows, np.arange(20, 5, -1))):
            found = open_scores(tmp_path / f"{number}", "valid", wanted, tiny_prepared)
            assert len(found) == len(wanted)
            assert (found.logit == half(wanted)).all()
            assert (found.variance == np.abs(half(wanted))).all()
            assert (found.members == np.stack([half(wanted), -half(wanted)], axis=1)).all()
            places = np.array([3, 0, 3, len(wanted) - 1])
            got, true = found.at(places), said(wanted)
            assert torch.equal(got.logit, true.logit[places])
            assert torch.equal(got.members, true.members[places])
            assert torch.allclose(got.hidden, true.hidden[places], atol=1e-3)
            assert got.hidden.dtype == torch.float32


@pytest.mark.parametrize(("kind", "off", "kept"), [("float16", 2**-11, 2), ("int8", 1 / 254, 1)])
def test_hidden_vectors_lose_no_more_than_they_must(rows, about, tiny_prepared, tmp_path, kind, off, kept):
    scores = said(rows, width=64)
    write(tmp_path / "valid", rows, about, kind=kind, scores=scores)
    found = open_scores(tmp_path, "valid", rows, tiny_prepared)
    index = np.random.default_rng(1).permutation(len(rows))
    error = (found.at(index).hidden - scores.hidden[index]).abs()
    assert (error <= off * scores.hidden[index].abs().amax(dim=1, keepdim=True) * 1.001).all()
    assert error.max() > 0
    held = sum(values.nbytes for values in found.hidden.values)
    assert held == len(rows) * 64 * kept
    assert not any(values.flags.owndata for values in found.hidden.values)  # mapped, not copied


@pytest.mark.parametrize("vector", [[0.0, 0.0], [1e-30, -1e-30], [3e38, -3e38]])
def test_extreme_vectors_are_quantised_without_overflow(vector):
    codes, scale = quantise(np.array([vector], dtype=np.float32))
    assert np.isfinite(scale).all()
    assert codes[0].tolist() in ([0, 0], [127, -127])


def test_nothing_is_stored_that_was_not_asked_for(rows, about, tiny_prepared, tmp_path):
    write(tmp_path / "valid", rows, about, scores=Scores(logit=torch.from_numpy(half(rows))))
    found = open_scores(tmp_path, "valid", rows, tiny_prepared)
    assert (found.hidden, found.members, found.variance) == (None, None, None)
    assert found.at(np.array([1])).hidden is None


def test_batches_carry_all_of_it(rows, about, tiny_prepared, tmp_path):
    write(tmp_path / "valid", rows, about, kind="int8")
    stored = open_scores(tmp_path, "valid", rows, tiny_prepared)
    for batch in itertools.islice(Batches(rows=rows, batch_size=64, shuffle="rows", teacher=stored).epoch(0), 3):
        assert torch.equal(batch.teacher.logit, batch.row_id * 0.5)
        assert torch.equal(batch.teacher.variance, batch.row_id * 0.5)
        steps = torch.arange(1, 4)
        assert torch.allclose(batch.teacher.hidden, torch.sin(batch.teacher.logit.unsqueeze(1) * steps), atol=0.005)


def test_a_row_without_a_score_is_told(rows, about, tiny_prepared, tmp_path):
    write(tmp_path / "valid", reordered(rows, np.arange(3, len(rows) - 2)), about)
    with pytest.raises(BadInput, match="wanted a score of every row, found 5 without; score again"):
        open_scores(tmp_path, "valid", rows, tiny_prepared)


@pytest.mark.parametrize("key", ["fingerprint", "encoder"])
def test_scores_of_other_data_or_another_encoder_are_refused(rows, about, tiny_prepared, tmp_path, key):
    for other in ({**about, key: "f" * 64}, {k: v for k, v in about.items() if k != key}):
        write(tmp_path / "valid", rows, other)
        with pytest.raises(BadInput, match=rf"segments\.json: {key}: wanted {about[key][:12]}, found .*; score again"):
            open_scores(tmp_path, "valid", rows, tiny_prepared)


def test_a_store_that_is_not_whole_is_refused(rows, about, tiny_prepared, tmp_path):
    with pytest.raises(BadInput, match="valid: wanted a finished score store, found none; score again"):
        open_scores(tmp_path, "valid", rows, tiny_prepared)
    write(tmp_path / "valid", rows, about)
    (tmp_path / "valid/segments.json").unlink()
    with pytest.raises(BadInput, match="found none"):
        open_scores(tmp_path, "valid", rows, tiny_prepared)
    write(tmp_path / "valid", rows, about)
    segment_path(tmp_path / "valid", 2).unlink()
    num = -(-len(rows) // 100)
    with pytest.raises(BadInput, match=rf"wanted {num} segments, found all but 000002\.arrow"):
        open_scores(tmp_path, "valid", rows, tiny_prepared)


def test_a_segment_of_another_teacher_is_refused(rows, about, tiny_prepared, tmp_path):
    write(tmp_path / "valid", rows, about)
    index = np.arange(100, 200)
    part = reordered(rows, index)
    write_segment(tmp_path / "valid", 1, part["row_id"], said(part), "none", {**about, "teacher": "u" * 64})
    with pytest.raises(BadInput) as told:
        open_scores(tmp_path, "valid", rows, tiny_prepared)
    (line,) = told.value.problems
    assert line.endswith(f"000001.arrow: teacher: wanted {'t' * 12}, found {'u' * 12}; score again")


def test_a_segment_is_known_only_when_it_is_whole_and_of_this_teacher(rows, about, tmp_path):
    path = segment_path(tmp_path, 0)
    assert not is_segment(path, about)
    write_segment(tmp_path, 0, np.asarray(rows["row_id"]), said(rows), "int8", about)
    assert is_segment(path, about)
    assert not is_segment(path, {**about, "teacher": "u" * 64})
    whole = path.read_bytes()
    for end in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert not is_segment(path, about)

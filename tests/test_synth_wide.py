"""The wide log: as many columns, values, nulls and rows as asked, skewed as asked, with a weak signal that is found."""

from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import read_log, the_line

from recdistill.data.log.listing import open_log
from recdistill.data.synth.files import read_truth
from recdistill.data.synth.wide import draw, shape, wide
from recdistill.problems import BadInput

SHAPE = {"num_ids": 6, "num_numbers": 3, "cardinality": 40, "seed": 5}
ROWS = 120_000


@pytest.fixture(scope="module", params=["int64", "string"])
def folder(request, tmp_path_factory):
    made = tmp_path_factory.mktemp(request.param) / "log"
    assert wide(made, ROWS, **SHAPE, kind=request.param) == ROWS
    return made


@pytest.fixture(scope="module")
def log(folder):
    return read_log(folder)


def test_columns_rows_and_values_are_as_many_as_asked(folder, log):
    ids, numbers = [f"id_{n:02d}" for n in range(6)], [f"number_{n:02d}" for n in range(3)]
    assert list(log) == ["user_id", "timestamp", *ids, *numbers, "label"]
    assert len(log) == ROWS
    kind = str(open_log(str(folder)).types["id_00"])
    assert kind == read_truth(folder)["wide"]["kind"]
    for name in ids:
        assert log[name].nunique() == SHAPE["cardinality"]
    everything = set().union(*(set(log[name]) for name in ids))
    assert len(everything) == 6 * SHAPE["cardinality"]
    if kind == "string":
        assert log.id_00.str.fullmatch("[0-9a-f]{8}").all()
    else:
        assert np.log2(log.id_00.abs().max()) > 60


def test_numbers_have_long_tails_and_one_in_twenty_is_null(log):
    numbers = log.filter(like="number_")
    assert len(numbers.columns) == 3
    for name in numbers:
        assert abs(numbers[name].isna().mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / ROWS)
        logs = np.log(numbers[name].dropna())
        assert abs(logs.mean()) < 0.03
        assert logs.std() == pytest.approx(1.5, abs=0.02)


def test_times_rise_over_ten_days(log):
    assert log.timestamp.is_monotonic_increasing
    assert 9.9 < (log.timestamp.max() - log.timestamp.min()).total_seconds() / 86_400 < 10


def spread(log, name):
    """Chi-squared of the click rates of a column's values, over its degrees of freedom: 1 where it tells nothing."""
    groups, rate = log.groupby(name).label, log.label.mean()
    return ((groups.mean() - rate) ** 2 * groups.size()).sum() / (rate * (1 - rate)) / (log[name].nunique() - 1)


def test_the_first_four_ids_and_two_numbers_tell_and_no_others(log):
    for name in ("id_00", "id_01", "id_02", "id_03"):
        assert spread(log, name) > 10
    for name in ("id_04", "id_05"):
        assert spread(log, name) < 1 + 5 * np.sqrt(2 / 39)
    told = [abs(np.log(log[f"number_{n:02d}"]).corr(log.label)) for n in range(3)]
    assert min(told[:2]) > 0.04
    assert told[2] < 4 / np.sqrt(ROWS)


def test_the_ceiling_is_known_and_modest(folder, log):
    truth = read_truth(folder)
    assert truth["all_rows"]["rows"] == ROWS
    assert truth["last_tenth"]["rows"] == ROWS // 10
    assert truth["all_rows"]["click_rate"] == pytest.approx(log.label.mean())
    assert 0.6 < truth["all_rows"]["ceiling"]["all"]["auc"] < 0.72
    assert list(truth["all_rows"]["ceiling"]) == ["all"]


@pytest.mark.parametrize("skew", [0.0, 0.7, 1.0, 1.5])
def test_ranks_are_drawn_as_the_skew_says(skew):
    edges = np.arange(1, 22)
    area = np.log(edges) if skew == 1 else edges ** (1 - skew) / (1 - skew)
    wanted = 200_000 * np.diff(area) / (area[-1] - area[0])
    counts = np.bincount(draw(np.random.default_rng(1), 200_000, 20, skew), minlength=20)
    assert len(counts) == 20
    assert (np.abs(counts - wanted) < 5 * np.sqrt(wanted)).all()


def test_files_hold_a_limited_number_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("recdistill.data.synth.files._ROWS_PER_FILE", 20_000)
    monkeypatch.setattr("recdistill.data.synth.wide._ROWS_PER_CHUNK", 8_000)
    wide(tmp_path / "log", 50_001, **SHAPE)
    sizes = [pq.read_metadata(path).num_rows for path in sorted((tmp_path / "log").glob("*.parquet"))]
    assert sizes == [16_000, 16_000, 18_001]


def test_the_same_seed_makes_the_same_log_and_another_another(tmp_path):
    seeds = (5, 5, 6)
    for place, seed in enumerate(seeds):
        wide(tmp_path / str(place), 2000, **{**SHAPE, "seed": seed})
    prints = [open_log(str(tmp_path / str(place))).fingerprint for place in range(3)]
    assert [one == other for one, other in pairwise(prints)] == [True, False]


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    with pytest.raises(BadInput) as caught:
        wide(tmp_path / "log", 0, num_ids=0, num_numbers=-1, cardinality=0, seed=-1, kind="float", skew=-0.5)
    assert len(caught.value.problems) == 7
    the_line(caught.value.problems, "cardinality", "found 0")
    the_line(caught.value.problems, "kind", "found 'float'")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "20", "20x", "x13", "20x13x2", "-1x3"])
def test_a_shape_is_two_numbers(text):
    with pytest.raises(BadInput, match="write it as in 20x13"):
        shape(text)

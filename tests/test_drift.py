"""Distances of distributions against arithmetic by hand, the noise against simulation, and the table of a log."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recdistill.data.store import Rows, record_type
from recdistill.data.watch.drift import (
    FLOOR,
    drift,
    drift_files,
    drift_summary,
    js,
    psi,
    psi_noise,
    render,
    write_drift,
)
from recdistill.types import IdFeature, Layout

log, log2, sqrt = np.log, np.log2, np.sqrt
some_counts = arrays(np.int64, 6, elements=st.integers(0, 50)).filter(lambda a: a.sum() > 0)
LAYOUT = Layout(
    ids=(IdFeature(name="item", table="item", start=0, width=1, num_rows=12, kind="single"),), dense=("price",)
)


def window(item, price=None, first_row=0):
    records = np.zeros(len(item), record_type(1, 1))
    records["row_id"] = np.arange(first_row, first_row + len(item))
    records["ids"][:, 0] = item
    records["dense"][:, 0] = np.arange(len(item)) % 50 + 1 if price is None else price
    return Rows(layout=LAYOUT, records=records, events={})


def test_psi_is_the_sum_of_share_differences_times_log_ratios():
    found = psi(np.array([50, 30, 20]), np.array([100, 200, 200]))  # shares .5 .3 .2 against .2 .4 .4
    assert found == pytest.approx(0.3 * log(0.5 / 0.2) - 0.1 * log(0.3 / 0.4) - 0.2 * log(0.2 / 0.4))


def test_an_empty_bin_counts_as_one_in_ten_thousand():
    assert psi(np.array([0, 10]), np.array([5, 5])) == pytest.approx(0.4999 * log(0.5 / 0.0001) + 0.5 * log(2))
    assert psi(np.array([0, 10, 0]), np.array([5, 5, 0])) == psi(np.array([0, 10]), np.array([5, 5]))


def test_js_is_the_root_of_the_entropy_that_mixing_adds():
    entropy = -(0.75 * log2(0.75) + 0.25 * log2(0.25))
    assert js(np.array([4, 4]), np.array([3, 0])) == pytest.approx(sqrt(entropy - 1 / 2))
    assert js(np.array([4, 0]), np.array([0, 9])) == 1


@given(some_counts, st.integers(1, 9), st.integers(1, 9))
def test_equal_shares_of_any_numbers_of_rows_are_at_no_distance(counts, one, other):
    assert psi(counts * one, counts * other) == pytest.approx(0, abs=1e-12)
    assert js(counts * one, counts * other) == pytest.approx(0, abs=1e-6)


@given(some_counts, some_counts, some_counts)
def test_distances_are_symmetric_bounded_and_js_is_a_metric(a, b, c):
    assert psi(a, b) == pytest.approx(psi(b, a), abs=1e-12)
    assert 0 <= psi(a, b) <= 2 * log(1 / FLOOR)
    assert js(a, b) == pytest.approx(js(b, a), abs=1e-6)
    assert 0 <= js(a, b) <= 1
    assert js(a, c) <= js(a, b) + js(b, c) + 1e-6


@pytest.mark.parametrize("measure", [psi, js])
def test_without_rows_there_is_no_distance(measure):
    assert np.isnan(measure(np.array([0, 0]), np.array([1, 2])))
    assert np.isnan(measure(np.array([1, 2]), np.array([0, 0])))


@pytest.mark.parametrize(("num_rows", "train_rows"), [(500, 5000), (4000, 4000)])
def test_noise_is_the_mean_psi_of_two_samples_of_one_distribution(num_rows, train_rows):
    generator = np.random.default_rng(5)
    share = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05])
    found = [psi(generator.multinomial(num_rows, share), generator.multinomial(train_rows, share)) for _ in range(3000)]
    noise = psi_noise(np.array([8]), np.array([num_rows]), train_rows)[0]
    assert noise == pytest.approx(7 * (1 / num_rows + 1 / train_rows))
    assert np.mean(found) == pytest.approx(noise, rel=0.05)
    assert np.std(found) == pytest.approx(noise * sqrt(2 / 7), rel=0.1)  # of a chi-squared of 7 degrees


def table_of(train, valid, test, partition_of=np.zeros_like, names=("all",), **options):
    return drift({"train": train, "valid": valid, "test": test}, partition_of, names, **options)


def the_line(table, partition, feature):
    (line,) = [x for x in table.to_pylist() if (x["partition"], x["feature"]) == (partition, feature)]
    return line


def test_a_window_like_the_train_window_has_not_drifted():
    rows = window([2, 3, 3, 4] * 50)
    table = table_of(rows, rows, rows)
    assert table.num_rows == (3 + 2) * 2  # "all" in three windows, two whole windows, two features
    assert set(table.column("psi").to_pylist()) == set(table.column("js").to_pylist()) == {0.0}


def test_a_shifted_window_is_as_far_as_arithmetic_says():
    train = window([2] * 60 + [3] * 40, price=[1.0] * 50 + [2.0] * 50)
    test = window([2] * 10 + [3] * 5 + [1] * 3 + [0] * 2, price=[2.0] * 20, first_row=100)
    table = table_of(train, train, test)
    item, price = (the_line(table, "test window", name) for name in ("item", "price"))
    assert (item["window"], item["rows"]) == ("test", 20)
    assert item["unknown"] == 3 / 18
    assert item["absent"] == item["absent_change"] == 2 / 20
    wanted = [(0.5, 0.6), (0.25, 0.4), (0.15, FLOOR), (0.1, FLOOR)]
    assert item["psi"] == pytest.approx(sum((p - q) * log(p / q) for p, q in wanted))
    assert item["psi_noise"] == pytest.approx(3 * (1 / 20 + 1 / 100))
    assert price["unknown"] is None
    assert price["psi"] == pytest.approx((FLOOR - 0.5) * log(FLOOR / 0.5) + 0.5 * log(1 / 0.5))


def test_a_partition_of_unknown_values_alone_is_all_unknown_and_far_away():
    train = window([2] * 100)
    test = window([2] * 10 + [1] * 10, first_row=100)
    table = table_of(train, train, test, lambda row_id: row_id // 110, ("old", "new"))
    line = the_line(table, "new", "item")
    assert (line["unknown"], line["rows"], line["js"]) == (1.0, 10, 1.0)
    assert line["psi"] == pytest.approx(2 * (1 - FLOOR) * log(1 / FLOOR))
    assert the_line(table, "test window", "item")["unknown"] == 0.5


def test_a_window_in_which_all_is_absent_has_no_share_of_unknown():
    train = window([2] * 100)
    line = the_line(table_of(train, train, window([0] * 5, first_row=100)), "test window", "item")
    assert (line["unknown"], line["absent"], line["absent_change"]) == (None, 1.0, 1.0)


def test_a_partition_without_rows_has_no_line_and_a_window_without_rows_has_nulls():
    train = window([2, 3] * 10)
    table = table_of(train, train, window([]), names=("all", "nothing"))
    assert "nothing" not in table.column("partition").to_pylist()
    line = the_line(table, "test window", "item")
    assert (line["rows"], line["psi"], line["js"], line["psi_noise"], line["unknown"]) == (0, None, None, None, None)


def test_a_partition_is_where_its_rows_are_and_in_two_windows_where_a_cut_parts_it():
    train, test = window([2] * 30), window([2] * 30, first_row=30)
    table = table_of(train, test, test, lambda row_id: row_id // 20, ("a", "b", "c"))
    lines = [x for x in table.to_pylist() if x["feature"] == "item" and "window" not in x["partition"]]
    found = {(x["window"], x["partition"]): x["rows"] for x in lines}
    both = {(name, p): rows for name in ("valid", "test") for p, rows in (("b", 10), ("c", 20))}
    assert found == {("train", "a"): 20, ("train", "b"): 10, **both}


def test_the_order_of_the_rows_does_not_matter():
    generator = np.random.default_rng(2)
    parts = [window(generator.integers(0, 12, 500), generator.normal(size=500), first) for first in (0, 500, 1000)]
    mixed = [dataclasses.replace(rows, records=generator.permutation(rows.records)) for rows in parts]
    of, names = (lambda row_id: row_id // 250), [f"part {n}" for n in range(6)]
    assert table_of(*parts, of, names).equals(table_of(*mixed, of, names))


def test_kept_negatives_stand_for_those_that_were_dropped():
    whole = window([2] * 40 + [3] * 20)
    thinned = window([2] * 10 + [3] * 20)
    thinned.records["label"] = np.repeat([0, 1], [10, 20])
    assert the_line(table_of(thinned, whole, whole, keep_negatives=0.25), "test window", "item")["psi"] == 0
    assert the_line(table_of(thinned, whole, whole), "test window", "item")["psi"] > 0.1


def test_the_summary_names_the_worst_features_of_the_test_window(tmp_path):
    train = window([2] * 60 + [3] * 40)
    far = window([1] * 20, price=99.0, first_row=100)
    table = table_of(train, far, window([2] * 11 + [3] * 8 + [1], price=99.0, first_row=200))
    write_drift(tmp_path, table)
    price = the_line(table, "test window", "price")["psi"]
    wanted = {"max_psi": price, "psi_feature": "price", "max_unknown": 1 / 20, "unknown_feature": "item"}
    assert drift_summary(tmp_path) == wanted
    assert price > the_line(table, "test window", "item")["psi"]
    assert pq.read_table(tmp_path / "drift.parquet").equals(table)
    assert [path.name for path in drift_files(tmp_path)] == ["drift.parquet", "drift.json"]


def test_a_test_window_without_rows_has_a_summary_of_nothing(tmp_path):
    train = window([2] * 9)
    write_drift(tmp_path, table_of(train, train, window([])))
    assert set(drift_summary(tmp_path).values()) == {None}


def test_without_files_there_is_no_summary(tmp_path):
    assert drift_summary(tmp_path) is None
    assert drift_files(tmp_path) == []


def test_the_worst_lines_come_first_and_those_of_a_few_rows_not_at_all():
    train = window([2, 3] * 500)
    table = table_of(train, window([2] * 300 + [3] * 200), window([2] * 400 + [3] * 100))
    shown = render(table, worst=2)
    assert shown[0].split()[:5] == ["window", "partition", "feature", "rows", "psi"]
    assert [line.split()[:2] for line in shown[1:]] == [["test", "test"], ["test", "all"]]  # one and the same rows
    assert "item" in shown[1]
    assert f"{0.3 * log(0.8 / 0.5) - 0.3 * log(0.2 / 0.5):.4f}" in shown[1]
    few = table_of(train, window([2] * 5), window([2] * 5))
    assert not any(" 5 " in line for line in render(few, worst=99))
    assert len(render(few, worst=99)) == 1 + 2  # the train window's own partition alone

"""The numbers behind the report's page, and what of the page needs no run: SVG, colours, changes, words."""

import logging
import re

import numpy as np
import pytest
from conftest import make_run

from recdistill.metrics.rows import Rows
from recdistill.report import figures
from recdistill.report.changes import changed
from recdistill.report.drawing import COLOURS, drawing
from recdistill.report.judged import NUM_BANDS, bands, calibration_bins, popularity_band
from recdistill.report.page import HERE
from recdistill.report.write import keep_report


def rows_of(label, request=None, user=None):
    zeros = np.zeros(len(label), dtype=np.int64)
    return Rows(
        label=np.asarray(label, dtype=float),
        user=zeros if user is None else user,
        request=zeros if request is None else np.asarray(request),
    )


def logit(probability):
    return np.log(probability) - np.log1p(-np.asarray(probability))


# calibration


def test_a_calibrated_model_lies_on_the_diagonal_and_an_overconfident_one_above_it_where_it_is_low():
    generator = np.random.default_rng(1)
    truth = generator.uniform(0.05, 0.95, 40_000)
    rows = rows_of(generator.uniform(size=len(truth)) < truth, user=np.arange(len(truth)) % 500)
    fair = calibration_bins(logit(truth), rows, np.random.default_rng(0))
    assert len(fair) == 15
    assert max(abs(one.predicted - one.observed) for one in fair) < 0.03
    assert all(one.low <= one.observed <= one.high for one in fair)
    inside = sum(one.low <= one.predicted <= one.high for one in fair)
    assert inside >= 12  # of 15 intervals of 95%
    bold = calibration_bins(3 * logit(truth), rows, np.random.default_rng(0))
    assert bold[2].observed > bold[2].predicted + 0.1
    assert bold[-3].observed < bold[-3].predicted - 0.1


def test_an_offset_of_sampling_is_added_before_probabilities_are_judged():
    label = np.array([0.0, 1.0, 1.0, 1.0])
    zeros = np.zeros(4, dtype=np.int64)
    shifted = Rows(label=label, user=zeros, request=zeros, offset=np.full(4, np.log(3)))
    (one,) = calibration_bins(np.zeros(4), shifted, np.random.default_rng(0))
    assert one.predicted == pytest.approx(0.75)
    assert one.observed == 0.75


# popularity


def test_bands_hold_a_fifth_of_the_positives_each_and_items_without_any_are_in_the_last():
    counts = np.array([0, 0, 40, 20, 20, 10, 5, 5, 0])
    found = popularity_band(np.arange(len(counts)), counts)
    assert found[2:].tolist() == [0, 2, 3, 4, 4, 4, 4]
    assert found[:2].tolist() == [NUM_BANDS - 1] * 2


def test_a_band_counts_its_items_rows_first_places_and_orders():
    items = np.array([7, 8, 7, 8, 9])
    rows = rows_of([1, 0, 0, 1, 1], request=[0, 0, 1, 1, 2])
    models = {"popular": np.array([2.0, 1.0, 2.0, 1.0, 9.0]), "right": np.array([2.0, 1.0, 1.0, 2.0, 0.0])}
    head, tail = bands(items, np.array([0, 4, 0, 4, 4]), rows, models)
    assert (head.title, head.num_items, head.num_rows) == ("most popular", 1, 2)
    assert (tail.title, tail.num_items, tail.num_rows) == ("least popular", 2, 3)
    assert head.first == {"popular": 1.0, "right": 0.5}  # the request of one row has no first place
    assert tail.first == {"popular": 0.0, "right": 0.5}
    assert head.auc == {"popular": 0.5, "right": 1.0}


# figures


def test_a_figure_takes_its_colours_from_the_page_and_nothing_from_anywhere_else():
    with drawing() as drawn:
        drawn.axes.plot([0, 1], [0, 1], color=COLOURS["student"], marker="o", label="a < b & c")
        drawn.axes.legend()
    svg = drawn.svg("one", 'what "it" shows')
    assert svg.startswith('<svg role="img" aria-label="what &quot;it&quot; shows"')
    assert "var(--student)" in svg
    assert "a &lt; b &amp; c" in svg
    assert not re.search(r"https?:|file:|#0a0b|<style|font-family|xmlns", svg)
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert ids
    assert len(set(ids)) == len(ids)
    pointed = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    assert pointed
    assert pointed <= set(ids)


def test_the_same_figure_is_drawn_the_same():
    def once():
        return figures.forest([("student", "student", [0.6, 0.5, 0.7])], "auc").svg("f", "")

    assert once() == once()


def test_a_value_without_an_interval_is_drawn_and_one_that_is_missing_leaves_its_line_empty():
    lines = [
        ("whole", "student", [0.6, 0.5, 0.7]),
        ("alone", "champion", [0.55, None, None]),
        ("no", "control", [None] * 3),
    ]
    svg = figures.forest(lines, "auc", zero=True).svg("f", "")
    assert "var(--student)" in svg
    assert "var(--champion)" in svg
    assert "var(--control)" not in svg
    assert all(f">{title}</text>" in svg for title, _, _ in lines)


def test_rows_that_all_agree_make_a_figure():
    same = np.zeros(50)
    assert "<svg" in figures.agreement(same, same).svg("a", "")


# colours


def themes():
    text = (HERE / "page.css").read_text()
    found = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{([^}]*)\}", text)]
    assert len(found) == 2
    return found


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """WCAG 2.1, 1.4.3."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("place", [0, 1], ids=["light", "dark"])
def test_every_colour_can_be_read_on_its_ground(place):
    theme = themes()[place]
    assert {*COLOURS, "paper", "card", "link", "good", "bad", "open"} <= theme.keys()
    for name in ("ink", "muted", "link", "good", "bad", "open"):
        assert contrast(theme[name], theme["paper"]) >= 4.5, name
    for name in ("ink", "muted"):
        assert contrast(theme[name], theme["card"]) >= 4.5, name
    for name in ("good", "bad"):
        assert contrast(theme["stamp"], theme[name]) >= 4.5, name
    for name in ("teacher", "student", "control", "champion"):
        assert contrast(theme[name], theme["paper"]) >= 3, name


# changes


def test_only_what_differs_is_a_change_and_a_side_may_lack_it():
    found = changed({"a": "1", "b": "2", "gone": "x"}, {"a": "1", "b": "3", "new": "y"})
    assert [(one.name, one.before, one.now) for one in found] == [
        ("b", "2", "3"),
        ("gone", "x", None),
        ("new", None, "y"),
    ]


# writing


def test_a_page_that_cannot_be_written_is_said_and_fails_nothing(tmp_path, caplog):
    run = make_run(tmp_path / "no-log", tmp_path)
    folders = {"publish": tmp_path / "never"}
    with caplog.at_level(logging.WARNING, "recdistill"):
        keep_report(run, folders)
    assert "recdistill report" in caplog.text
    assert not list(tmp_path.rglob("report.html"))

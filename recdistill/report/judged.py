"""What the test window's scores say beyond the metrics: calibration by bin, agreement by row, quality by popularity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.config.run import Run
from recdistill.data.items import find_item, item_ids, positive_counts
from recdistill.data.store import open_rows
from recdistill.evaluate import SCORES, judged_rows
from recdistill.files import read_json
from recdistill.metrics.bootstrap import interval, user_draws
from recdistill.metrics.calibration import NUM_ECE_BINS
from recdistill.metrics.ranking import plain_auc, top
from recdistill.metrics.rows import Floats, Ints, Rows, ratio

NUM_BANDS = 5
_DRAWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Rows of about one predicted probability: its mean, and the share of positives with its interval."""

    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Items of about one popularity. num_items, num_rows: of the test window. auc: model -> of its rows, NaN of one
    class. first: model -> the share of requests of two rows or more whose first place such an item takes."""

    title: str
    num_items: int
    num_rows: int
    auc: dict[str, float]
    first: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The test window. logit: "teacher", "student" (the one that ships) and "control" (of its seed) -> [N]."""

    rows: Rows
    logit: dict[str, Floats]
    bands: tuple[Band, ...]

    def bins(self, model: str, seed: int) -> list[Bin]:
        """Calibration of a model, in the bins of `expected_calibration_error`."""
        return calibration_bins(self.logit[model], self.rows, np.random.default_rng(seed))


def open_judged(run: Run, folders: Mapping[str, Path]) -> Judged:
    """Read the scores that evaluate wrote and the rows they belong to."""
    stored = open_rows(folders["prepare"], "test")
    rows = judged_rows(run, stored)
    shipped = read_json(folders["export"] / "export.json")["shipped"]
    names = {"teacher": "teacher", "student": shipped, "control": shipped.replace("student", "control")}
    with pa.ipc.open_file(pa.memory_map(str(folders["evaluate"] / SCORES))) as reader:
        table = reader.read_all()
    logit = {model: table.column(name).to_numpy().astype(np.float64) for model, name in names.items()}
    item = find_item(run, stored.layout)
    if item is None:
        return Judged(rows=rows, logit=logit, bands=())
    counts = positive_counts(open_rows(folders["prepare"], "train"), item)
    items = item_ids(stored, item)
    return Judged(rows=rows, logit=logit, bands=tuple(bands(items, popularity_band(items, counts), rows, logit)))


def calibration_bins(logit: Floats, rows: Rows, generator: np.random.Generator) -> list[Bin]:
    """Bins of equal numbers of rows by predicted probability; intervals over users. Bins without rows are left out."""
    probability = (1 + np.tanh(rows.shifted(logit) / 2)) / 2
    edges = np.quantile(probability, np.linspace(0, 1, NUM_ECE_BINS + 1)[1:-1])
    place = np.searchsorted(edges, probability, side="right")
    weight_BU = user_draws(rows.num_users, _DRAWS, generator)
    found = []
    for number in np.unique(place):
        here = place == number
        users = rows.user[here]
        positive_U, row_U = (np.bincount(users, values, rows.num_users) for values in (rows.label[here], None))
        rate = interval(ratio(weight_BU @ positive_U, weight_BU @ row_U.astype(np.float64)))
        predicted = float(probability[here].mean())
        found.append(Bin(predicted=predicted, observed=rate.value, low=rate.low, high=rate.high))
    return found


def popularity_band(items: NDArray[np.integer], counts: Ints) -> Ints:
    """[N] 0 for rows of the most popular items, which together hold a fifth of all positives of the train window, and
    so on to NUM_BANDS - 1 for the least popular and those without any.

    >>> popularity_band(np.array([0, 1, 2, 3]), np.array([5, 4, 1, 0])).tolist()
    [0, 2, 4, 4]
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    band = np.empty(len(counts), dtype=np.int64)
    band[order] = np.minimum(before * NUM_BANDS // max(1, int(counts.sum())), NUM_BANDS - 1)
    return band[items]


def bands(items: NDArray[np.integer], band: Ints, rows: Rows, logit: Mapping[str, Floats]) -> list[Band]:
    """Each band that the test window has rows of, the most popular first."""
    several = np.bincount(rows.request)[rows.request] > 1
    first = {model: top(values, rows, k=1) & several for model, values in logit.items()}
    found = []
    for number in np.unique(band):
        here = band == number
        auc = {model: plain_auc(values[here], rows.label[here]) for model, values in logit.items()}
        share = {model: float((taken & here).sum() / max(1, taken.sum())) for model, taken in first.items()}
        about = {"num_items": len(np.unique(items[here])), "num_rows": int(here.sum())}
        found.append(Band(title=_band_title(int(number)), auc=auc, first=share, **about))
    return found


def _band_title(number: int) -> str:
    return {0: "most popular", NUM_BANDS - 1: "least popular"}.get(number, f"{number + 1} of {NUM_BANDS}")

"""The ceiling of a generated log: how well its labels can be foretold by one who knows the truth, counted exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.data.synth.world import STEP

KNOWERS = {
    "all": "knows the logit whole, with drift and position, but no noise of the labels",
    "no_position": "knows the same but the position, as a ranker that serves",
}

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


class Tally:
    """Rows by cell, position and label, before the last tenth of the time and in it: constant memory, nothing binned.

    The click probability depends on cell and position alone, so these counts hold all that a ceiling needs.
    """

    def __init__(self, probability: Floats) -> None:
        self.probability = probability  # [cells, positions]
        self.counts = np.zeros((2, *probability.shape, 2), dtype=np.int64)

    def add(self, place: NDArray[np.int32], clicked: NDArray[np.bool_], num_early: int) -> None:
        """[n] places (cell * positions + position from 0) and labels; the first `num_early` precede the last tenth."""
        code = place * 2 + clicked
        for part, codes in enumerate((code[:num_early], code[num_early:])):
            if len(codes):
                flat = self.counts[part].reshape(-1)
                flat += np.bincount(codes, minlength=len(flat))

    def to_json(self) -> dict[str, Any]:
        """Rows, click rate and ceilings over all rows and over the last tenth of the time."""
        by_position = self.counts.sum(axis=(0, 1))
        return {
            "relevance_step": STEP,
            "all_rows": _summary(self.counts.sum(axis=0), self.probability),
            "last_tenth": _summary(self.counts[1], self.probability),
            "click_rate_by_position": [_ratio(up, down + up) for down, up in by_position.tolist()],
        }


def _summary(counts: Counts, probability: Floats) -> dict[str, Any]:
    """counts: [cells, positions, 2]. A request fills every position once, so who does not see it takes the mean."""
    known = {"all": (counts.reshape(-1, 2), probability.reshape(-1))}
    if probability.shape[1] > 1:
        known["no_position"] = (counts.sum(axis=1), probability.mean(axis=1))
    down, up = counts.sum(axis=(0, 1)).tolist()
    ceilings = {name: {"auc": auc(*both), "log_loss": log_loss(*both)} for name, both in known.items()}
    return {"rows": down + up, "click_rate": _ratio(up, down + up), "ceiling": ceilings}


def ceiling_lines(truth: dict[str, Any]) -> list[str]:
    """What `to_json` gave as lines to read: rows, click rate and ceilings of both windows, and who knows what."""
    lines = []
    for window in ("all_rows", "last_tenth"):
        found = truth[window]
        rate = "no" if found["click_rate"] is None else f"{found['click_rate']:.2%}"
        lines.append(f"{window.replace('_', ' ')}: {found['rows']:,} rows, {rate} positive")
        for knower, ceiling in found["ceiling"].items():
            area = "none" if ceiling["auc"] is None else f"{ceiling['auc']:.4f}"
            loss = "none" if ceiling["log_loss"] is None else f"{ceiling['log_loss']:.4f}"
            lines.append(f"  at best AUC {area}, log loss {loss}, for one who {KNOWERS[knower]}")
    return lines


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def auc(counts: Counts, score: Floats) -> float | None:
    """Area under the ROC curve of rows counted by score, ties counted half; None with one class. counts: [k, 2].

    >>> auc(np.array([[1, 0], [0, 1], [1, 1]]), np.array([1.0, 3.0, 2.0]))  # 3.5 of 4 pairs
    0.875
    """
    seen = counts.sum(axis=1) > 0
    _, group = np.unique(score[seen], return_inverse=True)
    down, up = (np.bincount(group, counts[seen, label]) for label in (0, 1))
    return _ratio(float(up @ (np.cumsum(down) - down / 2)), float(down.sum() * up.sum())) if len(group) else None


def log_loss(counts: Counts, score: Floats) -> float | None:
    """Mean of -log of the probability that was given to the label; None without rows. counts: [k, 2].

    >>> round(log_loss(np.array([[1, 3]]), np.array([0.75])), 6)  # -(log(0.25) + 3 log(0.75)) / 4
    0.562335
    """
    seen = counts.sum(axis=1) > 0
    down, up = counts[seen].T
    loss = -(up @ np.log(score[seen]) + down @ np.log1p(-score[seen]))
    return _ratio(float(loss), int(counts.sum()))


def logits(probability: Floats) -> NDArray[np.float32]:
    """[cells * positions] log-odds of the click."""
    flat = probability.reshape(-1)
    return np.log(flat / (1 - flat)).astype(np.float32)

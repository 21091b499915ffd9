"""Many models on the same rows: metrics, paired differences with intervals over users and seeds, corrected p-values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.metrics.bootstrap import Bootstrap, Draws, bootstrap, interval
from recdistill.metrics.measure import measure
from recdistill.metrics.ranking import auc, top
from recdistill.metrics.rows import Floats, Ints, Rows, ratio

LOGGED = ("auc", "gauc", "ndcg_at_10", "log_loss", "ece", "tail_auc", "tail_recall_at_10")
K = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """The judged rows of a window. tail: [N] whether a row's item belongs to the rarer half of the train window's
    positives. drawn: the draws that all models share."""

    rows: Rows
    teacher: Floats
    tail: NDArray[np.bool_]
    drawn: Bootstrap

    def __call__(self, logits: Sequence[Floats]) -> Draws:
        """Metric -> [B + 1], the mean over the drawn seeds; logits: one array [N] per seed, or one for all."""
        return self.drawn.over_seeds([self._one(logit) for logit in logits])

    def _one(self, logit: Floats) -> Draws:
        weights = self.drawn.weights
        found = measure(logit, self.rows, weights, self.teacher)
        if self.tail.any():
            cut = Rows(
                label=self.rows.label[self.tail], user=self.rows.user[self.tail], request=self.rows.request[self.tail]
            )
            found["tail_auc"] = auc(logit[self.tail], cut, weights[:, : cut.num_users])
            found["tail_recall_at_10"] = recall_of(self.tail, logit, self.rows, weights, k=K)
        return found


def judge(rows: Rows, teacher: Floats, tail: NDArray[np.bool_], *, draws: int, num_seeds: int, seed: int) -> Judge:
    """A judge with `draws` bootstrap draws of users and of seeds."""
    generator = np.random.default_rng([seed, 3])
    drawn = bootstrap(rows.num_users, draws, num_seeds, generator)
    return Judge(rows=rows, teacher=teacher, tail=tail, drawn=drawn)


def recall_of(chosen: NDArray[np.bool_], logit: Floats, rows: Rows, weight_BU: Floats, *, k: int) -> Floats:
    """Share of the chosen positives that stand among the first k of their request. [B]

    Requests of k rows or fewer are left out, for everything in them is among the first k. Among equal scores the
    earlier row is taken.

    >>> rows = Rows(label=np.ones(3), user=np.zeros(3, dtype=np.int64), request=np.zeros(3, dtype=np.int64))
    >>> rare = np.array([True, True, False])
    >>> recall_of(rare, np.array([1.0, 3.0, 2.0]), rows, np.ones((1, 1)), k=2).tolist()  # the first is third
    [0.5]
    """
    first = top(logit, rows, k=k)
    counted = chosen & (rows.label > 0) & (np.bincount(rows.request) > k)[rows.request]
    hits = np.bincount(rows.user, counted & first, rows.num_users)
    below = weight_BU @ np.bincount(rows.user, counted, rows.num_users)
    return ratio(weight_BU @ hits, below)


def rarer_half(item: NDArray[np.integer[Any]], counts: Ints) -> NDArray[np.bool_]:
    """[N] whether an item is among the least popular that make up half of all positives; unseen ones are.

    >>> rarer_half(np.array([0, 1, 2, 3]), np.array([6, 3, 3, 0])).tolist()
    [False, True, True, True]
    """
    order = np.argsort(counts, kind="stable")
    rare = np.zeros(len(counts), dtype=bool)
    rare[order] = np.cumsum(counts[order]) <= counts.sum() / 2
    return rare[item]


def p_value(draws: Floats) -> float:
    """Two-sided, of no difference, from bootstrap draws of one: twice the smaller share on a side of 0.

    Where all draws lie on one side they say no more than p <= 2 / (B + 1), which no correction for many comparisons
    would leave small: there it is that of the normal curve with the draws' deviation, if less.

    >>> p_value(np.array([0.3, 0.1, 0.2, -0.1, 0.4]))  # the first is the point value; 1 of 4 draws is below 0
    0.8
    >>> round(p_value(np.array([0.3, 0.2, 0.4])), 5)  # three deviations from 0
    0.0027
    """
    drawn = draws[1:][~np.isnan(draws[1:])]
    if not len(drawn):
        return 1.0
    side = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    counted = min(1.0, 2 * (side + 1) / (len(drawn) + 1))
    deviation = float(drawn.std())
    if side or not deviation:
        return counted
    return min(counted, math.erfc(abs(float(draws[0])) / deviation / math.sqrt(2)))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for how many there are (Holm, Scandinavian Journal of Statistics 1979), in the order given.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    corrected: dict[str, float] = {}
    largest = 0.0
    for place, name in enumerate(sorted(p, key=lambda name: p[name])):
        largest = max(largest, min(1.0, (len(p) - place) * p[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p}


def against(one: Draws, other: Draws, metric: str) -> tuple[list[float | None], float]:
    """(the paired difference with its interval, its p-value)."""
    apart = one[metric] - other[metric]
    return interval(apart).to_json(), p_value(apart)

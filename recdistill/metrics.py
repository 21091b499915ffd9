"""Ranking metrics of one model on labelled rows under any weighting of its users: a bootstrap is a matrix product.

Every metric is a function of one weight per user: all ones give the point value, multinomial counts give a bootstrap
draw clustered by user. Numbers in, numbers out; nothing here reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUM_ECE_BINS = 15
HIGHER_IS_BETTER = {
    "auc": True,
    "gauc": True,
    "ndcg_at_10": True,
    "hit_rate_at_10": True,
    "mrr_at_10": True,
    "log_loss": False,
    "ne": False,
    "ece": False,
    "teacher_correlation": True,
    "teacher_overlap_at_10": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What N judged rows share. label: [N] in {0, 1}; user, request: [N], numbered from 0 without gaps.

    offset: [N] what sampling shifted the rows' logits by, added where probabilities are judged; None is 0.
    """

    label: Floats
    user: Ints
    request: Ints
    offset: Floats | None = None

    def shifted(self, logit: Floats) -> Floats:
        """[N] logits of the labels as they were sampled."""
        return logit if self.offset is None else logit + self.offset

    @property
    def num_users(self) -> int:
        return int(self.user.max()) + 1


def numbered(values: NDArray[np.int64]) -> Ints:
    """Any keys -> 0, 1, 2 ... in ascending order of the keys.

    >>> numbered(np.array([70, -3, 70])).tolist()
    [1, 0, 1]
    """
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def measure(logit: Floats, rows: Rows, weight_BU: Floats, teacher: Floats | None = None) -> dict[str, Floats]:
    """Every metric of one model under B weightings of the U users: name -> [B].

    logit: [N] before the sigmoid. teacher: [N] logits to agree with; None leaves the two agreement metrics out.
    """
    measured = {
        "auc": auc(logit, rows, weight_BU),
        "gauc": gauc(logit, rows, weight_BU),
        "ndcg_at_10": ndcg(logit, rows, weight_BU, k=10),
        "hit_rate_at_10": hit_rate(logit, rows, weight_BU, k=10),
        "mrr_at_10": mrr(logit, rows, weight_BU, k=10),
        "log_loss": log_loss(logit, rows, weight_BU),
        "ne": normalised_entropy(logit, rows, weight_BU),
        "ece": expected_calibration_error(logit, rows, weight_BU),
    }
    if teacher is not None:
        measured["teacher_correlation"] = correlation(logit, teacher, rows, weight_BU)
        measured["teacher_overlap_at_10"] = overlap(logit, teacher, rows, weight_BU, k=10)
    return measured


def auc(logit: Floats, rows: Rows, weight_BU: Floats) -> Floats:
    """Area under the ROC curve over all pairs of rows, ties counted half: exact, not binned. [B]

    NaN with one class, and for a model that has said anything but finite numbers.

    >>> rows = Rows(label=np.array([1.0, 0, 1, 0]), user=np.array([0, 0, 1, 1]), request=np.zeros(4, dtype=np.int64))
    >>> auc(np.array([3.0, 1.0, 2.0, 2.0]), rows, np.array([[1.0, 1.0], [2.0, 1.0]])).tolist()  # 3.5 of 4; 8.5 of 9
    [0.875, 0.9444444444444444]
    """
    if not np.isfinite(logit).all():
        return np.full(len(weight_BU), np.nan)
    order = np.argsort(logit, kind="stable")
    user, positive = rows.user[order], rows.label[order]
    sorted_logit = logit[order]
    starts = np.flatnonzero(np.r_[True, sorted_logit[1:] != sorted_logit[:-1]])
    tied = len(starts) < len(order)
    areas = np.empty(len(weight_BU))
    for b, weight_U in enumerate(weight_BU):
        weight = weight_U[user]
        up, down = weight * positive, weight * (1 - positive)
        if tied:
            up, down = np.add.reduceat(up, starts), np.add.reduceat(down, starts)
        below = np.cumsum(down)
        pairs = up.sum() * below[-1]
        areas[b] = (up @ (below - down / 2)) / pairs if pairs > 0 else np.nan
    return areas


def _in_groups(group: Ints, key: Floats) -> tuple[Ints, Ints]:
    """Order of the rows by group and descending key, and where each group starts in that order."""
    order = np.lexsort((-key, group))
    sorted_group = group[order]
    starts = np.flatnonzero(np.r_[True, sorted_group[1:] != sorted_group[:-1]])
    return order.astype(np.int64), starts.astype(np.int64)


def gauc(logit: Floats, rows: Rows, weight_BU: Floats) -> Floats:
    """Mean over users of the AUC inside each user, weighted by the user's rows. [B]

    Users with one class only have no AUC and are left out (Zhou et al., Deep Interest Network, KDD 2018, section 6.2).
    """
    num_users = rows.num_users
    order = np.lexsort((logit, rows.user))
    user, label, value = rows.user[order], rows.label[order], logit[order]
    down = 1 - label
    before = np.cumsum(down) - down
    first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    before -= np.repeat(before[first], np.diff(np.r_[first, len(user)]))
    tie = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (value[1:] != value[:-1])])
    below = before[tie] + np.add.reduceat(down, tie) / 2
    area_U = np.bincount(user[tie], np.add.reduceat(label, tie) * below, num_users)
    up_U, down_U = np.bincount(user, label, num_users), np.bincount(user, down, num_users)
    both = (up_U > 0) & (down_U > 0)
    auc_U = np.divide(area_U, up_U * down_U, out=np.zeros(num_users), where=both)
    return _mean(auc_U, np.where(both, up_U + down_U, 0.0), weight_BU)


def _mean(value_U: Floats, weight_U: Floats, draws_BU: Floats) -> Floats:
    total = draws_BU @ weight_U
    return np.divide(draws_BU @ (value_U * weight_U), total, out=np.full(len(draws_BU), np.nan), where=total > 0)


def ndcg(logit: Floats, rows: Rows, weight_BU: Floats, *, k: int) -> Floats:
    """Mean over requests of NDCG@k with binary gains; ties share their places' mean gain. [B]

    Requests of one class only cannot be ranked wrongly and are left out. Source: Jarvelin & Kekalainen, TOIS 2002.

    >>> rows = Rows(label=np.array([0.0, 1, 0]), user=np.zeros(3, dtype=np.int64), request=np.zeros(3, dtype=np.int64))
    >>> bool(ndcg(np.array([3.0, 2.0, 1.0]), rows, np.ones((1, 1)), k=10)[0] == 1 / np.log2(3))
    True
    """
    order, starts = _in_groups(rows.request, logit)
    sizes = np.diff(np.r_[starts, len(order)])
    place = np.arange(len(order)) - np.repeat(starts, sizes)
    discount = np.where(place < k, 1 / np.log2(place + 2.0), 0.0)
    group, value, label = rows.request[order], logit[order], rows.label[order]
    tie = np.flatnonzero(np.r_[True, (group[1:] != group[:-1]) | (value[1:] != value[:-1])])
    tie_size = np.diff(np.r_[tie, len(order)])
    gain = np.repeat(np.add.reduceat(label, tie) / tie_size, tie_size)
    dcg_G = np.add.reduceat(gain * discount, starts)
    positives_G = np.add.reduceat(label, starts).astype(np.int64)
    ideal = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(2, k + 2)))]
    counted_G = (positives_G > 0) & (positives_G < sizes)
    best_G = ideal[np.minimum(positives_G, k)]
    value_G = np.divide(dcg_G, best_G, out=np.zeros(len(starts)), where=counted_G)
    return _mean_of_groups(value_G, counted_G, rows.user[order][starts], rows.num_users, weight_BU)


def hit_rate(logit: Floats, rows: Rows, weight_BU: Floats, *, k: int) -> Floats:
    """Mean over requests of whether a positive is among the first k; the mean over the orders of ties. [B]

    Requests of one class only are left out, as in ndcg.

    >>> rows = Rows(label=np.array([0.0, 1, 0]), user=np.zeros(3, dtype=np.int64), request=np.zeros(3, dtype=np.int64))
    >>> hit_rate(np.array([3.0, 1.0, 1.0]), rows, np.ones((1, 1)), k=2).tolist()  # second or third
    [0.5]
    """
    chance_GK, counted_G, user_G = _first_positive(logit, rows, k)
    return _mean_of_groups(chance_GK.sum(axis=1), counted_G, user_G, rows.num_users, weight_BU)


def mrr(logit: Floats, rows: Rows, weight_BU: Floats, *, k: int) -> Floats:
    """Mean over requests of 1 / place of the first positive, 0 beyond place k; the mean over the orders of ties. [B]

    Requests of one class only are left out, as in ndcg.

    >>> rows = Rows(label=np.array([0.0, 1, 0]), user=np.zeros(3, dtype=np.int64), request=np.zeros(3, dtype=np.int64))
    >>> mrr(np.array([3.0, 1.0, 1.0]), rows, np.ones((1, 1)), k=2).tolist()  # (1/2 + 0) / 2
    [0.25]
    """
    chance_GK, counted_G, user_G = _first_positive(logit, rows, k)
    return _mean_of_groups(chance_GK @ (1 / np.arange(1, k + 1)), counted_G, user_G, rows.num_users, weight_BU)


def _first_positive(logit: Floats, rows: Rows, k: int) -> tuple[Floats, NDArray[np.bool_], Ints]:
    """Chance that a request's first positive is at each of k places, ties in random order; [G, k], counted, user."""
    order, starts = _in_groups(rows.request, logit)
    label, value, sizes = rows.label[order], logit[order], np.diff(np.r_[starts, len(order)])
    line = np.repeat(np.arange(len(starts)), sizes)
    best_G = np.maximum.reduceat(np.where(label > 0, value, -np.inf), starts)
    above_G = np.bincount(line, value > best_G[line], len(starts))
    tied = value == best_G[line]
    size_G, positive_G = np.bincount(line, tied, len(starts)), np.bincount(line, tied & (label > 0), len(starts))
    chance_GK = np.zeros((len(starts), k))
    none_yet_G = np.ones(len(starts))
    for place in range(k):
        step_G = place - above_G  # places of the tie that came before
        left_G = np.maximum(size_G - step_G, 1)
        here_G = np.where((step_G >= 0) & (step_G < size_G), np.minimum(positive_G / left_G, 1.0), 0.0)
        chance_GK[:, place] = none_yet_G * here_G
        none_yet_G *= 1 - here_G
    counted_G = (positive_G > 0) & (np.add.reduceat(label, starts) < sizes)
    return np.where(counted_G[:, None], chance_GK, 0.0), counted_G, rows.user[order][starts]


def _mean_of_groups(
    value_G: Floats, counted_G: NDArray[np.bool_], user_G: Ints, num_users: int, draws: Floats
) -> Floats:
    total_U = np.bincount(user_G, np.where(counted_G, value_G, 0.0), num_users)
    count_U = np.bincount(user_G, counted_G, num_users)
    return _ratio(draws @ total_U, draws @ count_U)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def _per_user(values: Floats, rows: Rows) -> Floats:
    return np.bincount(rows.user, values, rows.num_users).astype(np.float64)


def log_loss(logit: Floats, rows: Rows, weight_BU: Floats) -> Floats:
    """Mean binary cross-entropy in nats, from logits, without clipping. [B]"""
    shifted = rows.shifted(logit)
    loss = np.logaddexp(0.0, shifted) - rows.label * shifted
    return _ratio(weight_BU @ _per_user(loss, rows), weight_BU @ _per_user(np.ones_like(loss), rows))


def normalised_entropy(logit: Floats, rows: Rows, weight_BU: Floats) -> Floats:
    """Log loss over the entropy of the base rate: 1 is a constant guess (He et al., ADKDD 2014, equation 3). [B]"""
    rate = _ratio(weight_BU @ _per_user(rows.label, rows), weight_BU @ _per_user(np.ones_like(rows.label), rows))
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return _ratio(log_loss(logit, rows, weight_BU), np.nan_to_num(entropy))


def expected_calibration_error(logit: Floats, rows: Rows, weight_BU: Floats) -> Floats:
    """Mean |predicted - observed rate| over 15 bins of equal numbers of rows, in probability. [B]

    The bins are cut once, on all rows, and kept for every draw. Naeini et al. (AAAI 2015) cut bins of equal width,
    which leaves most of them empty at a low base rate.
    """
    probability = (1 + np.tanh(rows.shifted(logit) / 2)) / 2
    edges = np.quantile(probability, np.linspace(0, 1, NUM_ECE_BINS + 1)[1:-1])
    cell = rows.user * NUM_ECE_BINS + np.searchsorted(edges, probability, side="right")
    gap = np.bincount(cell, probability - rows.label, rows.num_users * NUM_ECE_BINS)
    gap_BC = weight_BU @ gap.reshape(rows.num_users, NUM_ECE_BINS)
    return _ratio(np.abs(gap_BC).sum(axis=1), weight_BU @ _per_user(np.ones_like(logit), rows))


def correlation(logit: Floats, teacher: Floats, rows: Rows, weight_BU: Floats) -> Floats:
    """Pearson correlation of a model's logits with the teacher's. [B]; NaN where one of them is constant."""
    x, y = logit - logit.mean(), teacher - teacher.mean()
    moments = [weight_BU @ _per_user(v, rows) for v in (np.ones_like(x), x, y, x * x, y * y, x * y)]
    n, sx, sy, sxx, syy, sxy = moments
    spread = np.sqrt(np.maximum(n * sxx - sx * sx, 0) * np.maximum(n * syy - sy * sy, 0))
    return _ratio(n * sxy - sx * sy, spread)


def top(logit: Floats, rows: Rows, *, k: int) -> NDArray[np.bool_]:
    """[N] whether a row is among the first k of its request; among equal scores the earlier row is taken."""
    order, starts = _in_groups(rows.request, logit)
    found = np.zeros(len(order), dtype=bool)
    found[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)])) < k
    return found


def overlap(logit: Floats, teacher: Floats, rows: Rows, weight_BU: Floats, *, k: int) -> Floats:
    """Mean over requests of more than k rows: share of the teacher's top k that the model's top k holds. [B]

    Among equal scores the earlier row is taken.
    """
    shared_G = np.bincount(rows.request, top(logit, rows, k=k) & top(teacher, rows, k=k)) / k
    user_G = np.zeros(len(shared_G), dtype=np.int64)
    user_G[rows.request] = rows.user
    return _mean_of_groups(shared_G, np.bincount(rows.request) > k, user_G, rows.num_users, weight_BU)


def user_draws(num_users: int, num_draws: int, generator: np.random.Generator) -> Floats:
    """[num_draws + 1, num_users] weights: a first line of ones (the point value), then bootstrap counts of users."""
    counts = generator.multinomial(num_users, np.full(num_users, 1 / num_users), size=num_draws)
    return np.concatenate([np.ones((1, num_users)), counts]).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Interval:
    """A point value with its 95% interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> list[float | None]:
        return [None if np.isnan(x) else float(x) for x in (self.value, self.low, self.high)]


def interval(draws_B: Floats) -> Interval:
    """The first entry as value, the 2.5% and 97.5% quantiles of the others as ends; NaN draws are left out."""
    if np.isnan(draws_B).all():
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.nanquantile(draws_B[1:], [0.025, 0.975])
    return Interval(float(draws_B[0]), float(low), float(high))


def plain_auc(logit: NDArray[np.floating[Any]], label: NDArray[np.floating[Any]]) -> float:
    """AUC of all rows, without users and draws; NaN with one class."""
    nobody = np.zeros(len(label), dtype=np.int64)
    rows = Rows(label=label.astype(np.float64), user=nobody, request=nobody)
    return float(auc(logit.astype(np.float64), rows, np.ones((1, 1)))[0])

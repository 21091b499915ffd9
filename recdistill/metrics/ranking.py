"""How well rows are ordered: AUC, GAUC, NDCG, hit rate and reciprocal rank, under B weightings of the users at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.metrics.rows import Floats, Ints, Rows, in_groups, mean_of_groups


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


def plain_auc(logit: NDArray[np.floating[Any]], label: NDArray[np.floating[Any]]) -> float:
    """AUC of all rows, without users and draws; NaN with one class."""
    nobody = np.zeros(len(label), dtype=np.int64)
    rows = Rows(label=label.astype(np.float64), user=nobody, request=nobody)
    return float(auc(logit.astype(np.float64), rows, np.ones((1, 1)))[0])


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
    order, starts = in_groups(rows.request, logit)
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
    return mean_of_groups(value_G, counted_G, rows.user[order][starts], rows.num_users, weight_BU)


def hit_rate(logit: Floats, rows: Rows, weight_BU: Floats, *, k: int) -> Floats:
    """Mean over requests of whether a positive is among the first k; the mean over the orders of ties. [B]

    Requests of one class only are left out, as in ndcg.

    >>> rows = Rows(label=np.array([0.0, 1, 0]), user=np.zeros(3, dtype=np.int64), request=np.zeros(3, dtype=np.int64))
    >>> hit_rate(np.array([3.0, 1.0, 1.0]), rows, np.ones((1, 1)), k=2).tolist()  # second or third
    [0.5]
    """
    chance_GK, counted_G, user_G = _first_positive(logit, rows, k)
    return mean_of_groups(chance_GK.sum(axis=1), counted_G, user_G, rows.num_users, weight_BU)


def mrr(logit: Floats, rows: Rows, weight_BU: Floats, *, k: int) -> Floats:
    """Mean over requests of 1 / place of the first positive, 0 beyond place k; the mean over the orders of ties. [B]

    Requests of one class only are left out, as in ndcg.

    >>> rows = Rows(label=np.array([0.0, 1, 0]), user=np.zeros(3, dtype=np.int64), request=np.zeros(3, dtype=np.int64))
    >>> mrr(np.array([3.0, 1.0, 1.0]), rows, np.ones((1, 1)), k=2).tolist()  # (1/2 + 0) / 2
    [0.25]
    """
    chance_GK, counted_G, user_G = _first_positive(logit, rows, k)
    return mean_of_groups(chance_GK @ (1 / np.arange(1, k + 1)), counted_G, user_G, rows.num_users, weight_BU)


def _first_positive(logit: Floats, rows: Rows, k: int) -> tuple[Floats, NDArray[np.bool_], Ints]:
    """Chance that a request's first positive is at each of k places, ties in random order; [G, k], counted, user."""
    order, starts = in_groups(rows.request, logit)
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


def top(logit: Floats, rows: Rows, *, k: int) -> NDArray[np.bool_]:
    """[N] whether a row is among the first k of its request; among equal scores the earlier row is taken."""
    order, starts = in_groups(rows.request, logit)
    found = np.zeros(len(order), dtype=bool)
    found[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)])) < k
    return found

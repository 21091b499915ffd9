"""Full ranking: each user's held-out items among all items but those it is known to have acted on, by blocks of users.

Numbers are per user, so that a caller may weigh users as it likes; NaN where a user has nothing to be judged by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recdistill.metrics.rows import Floats, Ints, ratio

BLOCK = 1 << 24  # scores held at once
PerUser = dict[str, Floats]
Pairs = tuple[Ints, Ints]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What U users are judged by. user: [U] rows of the users' vectors. popular: [items] of the popular group or not.

    relevant, seen, only: pairs as (line among the U, item): what is to be found; what is not ranked; and, where it is
    given, what alone is ranked. No pair is both relevant and seen, and none stands twice.
    """

    user: Ints
    relevant: Pairs
    seen: Pairs
    popular: NDArray[np.bool_]
    only: Pairs | None = None


def full_ranking(users: Tensor, items: Tensor, judged: Judged, at: Sequence[int]) -> PerUser:
    """recall_at_k, ndcg_at_k, hit_rate_at_k of every k, mrr, and recall_at_k_popular and _unpopular: name -> [U].

    users: [users, E], items: [items, E] float32; a score is their product. recall: found / all relevant ones of the
    user, or of its popular or unpopular ones. ndcg: binary gains, over the best order of min(k, relevant) items
    (Jarvelin & Kekalainen, TOIS 2002). mrr: 1 / place of the first relevant one among all items, counting those that
    score above it. Equal scores stand in the order of torch.topk. Memory is bounded by BLOCK scores, whatever the
    number of users.

    >>> users, items = torch.tensor([[1.0]]), torch.tensor([[4.0], [3.0], [2.0], [1.0]])
    >>> one = (np.array([0]), np.array([2]))  # item 2 is to be found; item 0 was seen; so it stands second
    >>> seen, popular = (np.array([0]), np.array([0])), np.array([True, True, False, False])
    >>> judged = Judged(user=np.array([0]), relevant=one, seen=seen, popular=popular)
    >>> found = full_ranking(users, items, judged, at=[1, 2])
    >>> [found[name].tolist() for name in ("recall_at_1", "recall_at_2", "mrr", "recall_at_2_popular")]
    [[0.0], [1.0], [0.5], [nan]]
    """
    depth = min(max(at), len(items))
    places, above = [np.zeros((0, depth), np.int64)], [np.zeros(0)]
    for lines, score in _blocks(users, items, judged):
        places.append(torch.topk(score, depth, dim=1).indices.numpy())
        above.append(_above_first(score, *_within(judged.relevant, lines)))
    place, ahead = np.concatenate(places), np.concatenate(above)
    return {**_at_each(judged, place, at), "mrr": 1 / (1 + ahead)}


def top_items(users: Tensor, items: Tensor, user: Ints, seen: Pairs, k: int) -> tuple[Ints, Floats]:
    """([U, k] items by falling score, [U, k] float32 scores); what a user has seen comes last, at minus infinity."""
    judged = Judged(user=user, relevant=seen, seen=seen, popular=np.zeros(len(items), dtype=bool))
    found = [torch.topk(score, k, dim=1) for _, score in _blocks(users, items, judged)]
    return tuple(np.concatenate([getattr(one, name).numpy() for one in found]) for name in ("indices", "values"))  # type: ignore[return-value]


def _blocks(users: Tensor, items: Tensor, judged: Judged) -> Iterator[tuple[slice, Tensor]]:
    """(lines, [n, items] scores, minus infinity for what is not ranked), as many users at a time as BLOCK allows."""
    step = max(1, BLOCK // max(len(items), 1))
    turned = items.T.contiguous()
    ordered = {name: _ordered(pairs) for name in ("seen", "only") if (pairs := getattr(judged, name)) is not None}
    for start in range(0, len(judged.user), step):
        lines = slice(start, min(start + step, len(judged.user)))
        score = users[torch.from_numpy(judged.user[lines])] @ turned
        if "only" in ordered:
            at = _flat(*_within(ordered["only"], lines), len(items))
            kept = torch.full_like(score, float("-inf"))
            kept.view(-1)[at] = score.view(-1)[at]
            score = kept
        score.view(-1)[_flat(*_within(ordered["seen"], lines), len(items))] = float("-inf")
        yield lines, score


def _ordered(pairs: Pairs) -> Pairs:
    order = np.argsort(pairs[0], kind="stable")
    return pairs[0][order], pairs[1][order]


def _within(pairs: Pairs, lines: slice) -> Pairs:
    """Those of some lines, whose number is then from 0 on. pairs: by line."""
    begin, end = np.searchsorted(pairs[0], [lines.start, lines.stop])
    return pairs[0][begin:end] - lines.start, pairs[1][begin:end]


def _flat(line: Ints, item: Ints, num_items: int) -> Tensor:
    return torch.from_numpy(line * num_items + item)


def _above_first(score: Tensor, line: Ints, item: Ints) -> Floats:
    """[n] how many items score above the best relevant one; NaN without one."""
    best = torch.full((len(score),), float("-inf"))
    which = torch.from_numpy(line)
    best.scatter_reduce_(0, which, score[which, torch.from_numpy(item)], "amax")
    above = np.count_nonzero(score.numpy() > best.numpy()[:, None], axis=1)
    return np.where(np.bincount(line, minlength=len(score)) > 0, above, np.nan)


def _at_each(judged: Judged, place: Ints, at: Sequence[int]) -> PerUser:
    """The metrics of the first k, for every k. place: [U, depth] items."""
    num_users, num_items = len(judged.user), len(judged.popular)
    line, item = judged.relevant
    keys = np.sort(line * num_items + item)
    wanted = np.arange(num_users)[:, None] * num_items + place
    hit = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted if len(keys) else wanted < 0
    groups = {"": np.ones(num_items, dtype=bool), "_popular": judged.popular, "_unpopular": ~judged.popular}
    found: PerUser = {}
    sizes = {name: np.bincount(line[of[item]], minlength=num_users) for name, of in groups.items()}
    discount = 1 / np.log2(np.arange(2, max(at) + 2))
    best = np.r_[0.0, np.cumsum(discount)]
    for k in at:
        for name, of in groups.items():
            hits = (hit[:, :k] & of[place[:, :k]]).sum(axis=1)
            found[f"recall_at_{k}{name}"] = ratio(hits.astype(np.float64), sizes[name].astype(np.float64))
        gained = (hit[:, :k] * discount[: min(k, place.shape[1])]).sum(axis=1)
        found[f"ndcg_at_{k}"] = ratio(gained, best[np.minimum(sizes[""], k)])
        found[f"hit_rate_at_{k}"] = np.where(sizes[""] > 0, hit[:, :k].any(axis=1), np.nan)
    return found


def weighted(per_user: PerUser, weight_BU: Floats) -> PerUser:
    """Means over the users that have a value, under B weightings of the U users: name -> [B]."""
    found = {}
    for name, value_U in per_user.items():
        counted = ~np.isnan(value_U)
        found[name] = ratio(weight_BU @ np.where(counted, value_U, 0.0), weight_BU @ counted.astype(np.float64))
    return found

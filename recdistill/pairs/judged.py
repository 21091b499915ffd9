"""Who is judged by what: the users of a window, its items to be found, what is not ranked, and the popular items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recdistill.metrics.full_ranking import Judged
from recdistill.pairs.draws import unseen_items
from recdistill.pairs.store import Ints, open_acts
from recdistill.types import FIRST_KNOWN

_BEFORE = {"valid": ("train",), "test": ("train", "valid")}


def judged_users(
    prepared: Path, split: str, *, most: int | None = None, negatives: int | None = None, seed: int = 0
) -> Judged:
    """Every user that has a pair in the window, or `most` of them drawn; pairs of the windows before it are not ranked.

    negatives: rank a user's items among so many drawn ones that it never acted on; None ranks them among all.
    """
    window, before = open_acts(prepared, split), open_acts(prepared, *_BEFORE[split])
    users = np.flatnonzero(window.sizes > 0)
    generator = np.random.default_rng([seed, 17])
    if most is not None and len(users) > most:
        users = np.sort(generator.permutation(users)[:most])
    relevant = window.rows_of(users)
    seen_line, seen_item = before.rows_of(users)
    twice = window.holds(users[seen_line], seen_item)  # a pair of both windows is still to be found
    unknown = np.tile(np.arange(FIRST_KNOWN), len(users))
    seen = (
        np.r_[seen_line[~twice], np.repeat(np.arange(len(users)), FIRST_KNOWN)],
        np.r_[seen_item[~twice], unknown],
    )
    only = None
    if negatives is not None:
        drawn = unseen_items(open_acts(prepared, "train", "valid", "test"), users, negatives, generator)
        drawn_line = np.repeat(np.arange(len(users)), negatives)
        only = (np.r_[relevant[0], drawn_line], np.r_[relevant[1], drawn.reshape(-1)])
    popular = ~rarer(open_acts(prepared, "train").popularity)
    return Judged(user=users, relevant=relevant, seen=seen, popular=popular, only=only)


def rarer(counts: Ints) -> NDArray[np.bool_]:
    """[items] whether an item is among the least popular that make up half of all pairs.

    >>> rarer(np.array([6, 3, 3, 0])).tolist()
    [False, True, True, True]
    """
    order = np.argsort(counts, kind="stable")
    rare = np.zeros(len(counts), dtype=bool)
    rare[order] = np.cumsum(counts[order]) <= counts.sum() / 2
    return rare

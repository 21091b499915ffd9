"""Which pairs are kept, and which window each belongs to: k-core, shares per user, times, the last one out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recdistill.config.data import Data
from recdistill.data.split import windows
from recdistill.pairs.log import Positives

Ints = NDArray[np.int64]
TRAIN, VALID, TEST = 0, 1, 2


def k_core(user: Ints, item: Ints, least: int) -> NDArray[np.bool_]:
    """[N] pairs of the largest part of the log in which every user and every item has at least so many.

    >>> k_core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), 2).tolist()
    [True, True, True, True, False]
    """
    kept = np.ones(len(user), dtype=bool)
    while True:
        few = np.zeros(len(user), dtype=bool)
        for side in (user, item):
            few |= kept & (np.bincount(side[kept], minlength=int(side.max(initial=0)) + 1) < least)[side]
        if not few.any():
            return kept
        kept &= ~few


def which_window(positives: Positives, data: Data, generator: np.random.Generator) -> NDArray[np.int8]:
    """[N] 0 for train, 1 for valid, 2 for test, -1 for none."""
    assert data.pairs is not None
    match data.pairs.split:
        case "files":
            return positives.part
        case "time":
            return windows(lambda: [positives.time], data.split).which(positives.time)
        case "leave_one_out":
            return leave_one_out(positives.user, positives.time, generator)
        case "ratio":
            return by_ratio(positives.user, data.split.train, data.split.valid, generator)


def by_ratio(user: Ints, train: float, valid: float, generator: np.random.Generator) -> NDArray[np.int8]:
    """Shares of each user's pairs at random: of n pairs the first round(train n), at least one, train.

    The valid window ends at round((train + valid) n); halves are rounded up.

    >>> np.bincount(by_ratio(np.zeros(10, dtype=np.int64), 0.8, 0.1, np.random.default_rng(0))).tolist()
    [8, 1, 1]
    """
    place, size = _places(user, generator.permutation(len(user)))
    ends = [np.floor(share * size + 0.5) for share in (train, train + valid)]
    return np.where(place < np.maximum(ends[0], 1), TRAIN, np.where(place < ends[1], VALID, TEST)).astype(np.int8)


def leave_one_out(user: Ints, time: Ints, generator: np.random.Generator) -> NDArray[np.int8]:
    """Each user's last pair is the test window, the one before it the validation window; ties in time at random.

    Users of fewer than three pairs are in the train window alone.

    >>> leave_one_out(np.array([0, 0, 0, 1]), np.array([3, 9, 5, 1]), np.random.default_rng(0)).tolist()
    [0, 2, 1, 0]
    """
    order = generator.permutation(len(user))
    place, size = _places(user, order[np.argsort(time[order], kind="stable")])
    back = np.where(size >= 3, size - 1 - place, 2)
    return np.where(back == 0, TEST, np.where(back == 1, VALID, TRAIN)).astype(np.int8)


def _places(user: Ints, order: Ints) -> tuple[Ints, Ints]:
    """([N] place of each pair among its user's in the order given, [N] how many the user has)."""
    by_user = order[np.argsort(user[order], kind="stable")]
    sizes = np.bincount(user)
    place = np.empty(len(user), dtype=np.int64)
    place[by_user] = np.arange(len(user)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return place, sizes[user]

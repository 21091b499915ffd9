"""What judged rows share, and sums over their users and requests under any weighting of the users.

Every metric of this package is a function of one weight per user: all ones give the point value, multinomial counts
give a bootstrap draw clustered by user. Numbers in, numbers out; nothing here reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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


def per_user(values: Floats, rows: Rows) -> Floats:
    return np.bincount(rows.user, values, rows.num_users).astype(np.float64)


def ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def in_groups(group: Ints, key: Floats) -> tuple[Ints, Ints]:
    """Order of the rows by group and descending key, and where each group starts in that order."""
    order = np.lexsort((-key, group))
    sorted_group = group[order]
    starts = np.flatnonzero(np.r_[True, sorted_group[1:] != sorted_group[:-1]])
    return order.astype(np.int64), starts.astype(np.int64)


def mean_of_groups(
    value_G: Floats, counted_G: NDArray[np.bool_], user_G: Ints, num_users: int, draws: Floats
) -> Floats:
    total_U = np.bincount(user_G, np.where(counted_G, value_G, 0.0), num_users)
    count_U = np.bincount(user_G, counted_G, num_users)
    return ratio(draws @ total_U, draws @ count_U)

"""What stands in the store of a run of pairs, by user: who acted on what, and whether a pair is one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recdistill.data.store import open_rows

Ints = NDArray[np.int64]
MOST_CELLS = 1 << 26  # bytes of a table of pairs; above it, a pair is searched for


@dataclass(frozen=True, slots=True, kw_only=True)
class Acts:
    """Pairs of ids by user. item: [N] ascending within each user. starts: [users + 1] of each user's in `item`.

    num_items: ids of items, the absent and the unknown one among them. keys: [N] user x num_items + item, ascending.
    table: [users x num_items] whether each pair is one of them, where it is small enough to be kept.
    """

    keys: Ints
    item: Ints
    starts: Ints
    num_items: int
    table: NDArray[np.bool_] | None = None

    @property
    def num_users(self) -> int:
        """Ids of users, the absent and the unknown one among them."""
        return len(self.starts) - 1

    @property
    def sizes(self) -> Ints:
        """[users] pairs of each."""
        return np.diff(self.starts)

    @property
    def user(self) -> Ints:
        """[N] the user of each pair."""
        return np.repeat(np.arange(self.num_users), self.sizes)

    @property
    def popularity(self) -> Ints:
        """[items] pairs of each."""
        return np.bincount(self.item, minlength=self.num_items)

    def holds(self, user: Ints, item: Ints) -> NDArray[np.bool_]:
        """[n] whether each pair is one of them.

        >>> some = acts([0, 0, 1], [1, 4, 2], num_users=2, num_items=5)
        >>> some.holds(np.array([0, 1, 1]), np.array([4, 4, 2])).tolist()
        [True, False, True]
        """
        keys, wanted = self.keys, user * self.num_items + item
        if self.table is not None:
            return self.table[wanted]
        if not len(keys):
            return np.zeros(len(user), dtype=bool)
        found: NDArray[np.bool_] = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
        return found

    def rows_of(self, users: Ints) -> tuple[Ints, Ints]:
        """Their pairs as (place of the user among `users`, item)."""
        sizes = self.sizes[users]
        line = np.repeat(np.arange(len(users)), sizes)
        within = np.arange(len(line)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return line, self.item[self.starts[users][line] + within]


def acts(user: Sequence[int] | Ints, item: Sequence[int] | Ints, *, num_users: int, num_items: int) -> Acts:
    """Pairs of ids in any order, by user."""
    users, items = np.asarray(user, dtype=np.int64), np.asarray(item, dtype=np.int64)
    keys = np.sort(users * num_items + items)
    starts = np.r_[0, np.cumsum(np.bincount(users, minlength=num_users))]
    table = None
    if num_users * num_items <= MOST_CELLS:
        table = np.zeros(num_users * num_items, dtype=np.bool_)
        table[keys] = True
    return Acts(keys=keys, item=keys % num_items, starts=starts, num_items=num_items, table=table)


def open_acts(prepared: Path, *splits: str) -> Acts:
    """The pairs of these windows together."""
    rows = [open_rows(prepared, split) for split in splits]
    ids = np.concatenate([one["ids"] for one in rows])
    num_users, num_items = (feature.num_rows for feature in rows[0].layout.ids)
    return acts(ids[:, 0], ids[:, 1], num_users=num_users, num_items=num_items)

"""Draws of negatives out of what was known the hour before, each by its own random number, with its expected rate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from recdistill.config.data import Negatives
from recdistill.data.negatives.catalogue import Catalogue, Ints, Positives
from recdistill.data.tables import splitmix

Floats = NDArray[np.float64]


def uniform(seed: int, row: Ints, draw: int) -> Floats:
    """[n] numbers in [0, 1), one for each row and draw: the same whenever and beside whichever other rows.

    >>> together = uniform(1, np.array([5, 6]), 0)
    >>> together.tolist() == [uniform(1, np.array([row]), 0).item() for row in (5, 6)]
    True
    """
    stream = splitmix(np.array([seed], dtype=np.uint64)) ^ np.uint64(draw)
    bits = splitmix(splitmix(stream) ^ row.astype(np.uint64)) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


class Window:
    """The weight of every item in the hours before one, [hour - span, hour); span None reaches to the beginning.

    It follows the hour forwards and backwards, in whole numbers, so the way there leaves no trace.
    """

    def __init__(self, catalogue: Catalogue, span: int | None) -> None:
        order = np.argsort(catalogue.hour, kind="stable")
        self._hour, self._code = catalogue.hour[order], catalogue.code[order]
        self._added = catalogue.weight[order]
        self._span = span
        self._first = self._last = 0
        self.weight = np.zeros(len(catalogue.items), dtype=np.int64)

    def move(self, hour: int) -> None:
        first = 0 if self._span is None else int(np.searchsorted(self._hour, hour - self._span))
        last = int(np.searchsorted(self._hour, hour))
        self._shift(self._last, last, 1)
        self._shift(self._first, first, -1)
        self._first, self._last = first, last

    def _shift(self, old: int, new: int, sign: int) -> None:
        """Add the entries from old up to new, or take away those from new up to old."""
        here = slice(min(old, new), max(old, new))
        np.add.at(self.weight, self._code[here], self._added[here] * (sign if new >= old else -sign))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """code: [n, k] of each drawn item, -1 where there is none. rate, own_rate: [n, k] and [n] how often a row is
    expected to draw that item and the row's own; NaN where nothing was known to draw from."""

    code: Ints
    rate: Floats
    own_rate: Floats


class Draws:
    """Draws k items for each positive, with replacement, and drops those that the positive's request acted on.

    An item x that was known before the hour of the row is drawn with p(x) = w(x) / sum of w over all known items, where
    w is 1 (uniform), its events to the power (popularity; recent_popularity within `recent`), or the votes of the
    sessions within `recent` (session: one vote a session and hour, shared by its items). A dropped draw is not made up
    for, so that a row and an item outside its request meet k p(x) times, whatever else the request holds.
    """

    def __init__(self, catalogue: Catalogue, negatives: Negatives, seed: int) -> None:
        recent = negatives.by in ("recent_popularity", "session")
        self._window = Window(catalogue, negatives.recent // timedelta(hours=1) if recent else None)
        self._power = {"uniform": 0.0, "session": 1.0}.get(negatives.by, negatives.power)
        self._num = negatives.per_positive
        self._catalogue, self._seed = catalogue, seed

    def __call__(self, rows: Positives) -> Drawn:
        num = len(rows.row)
        code = np.full((num, self._num), -1, dtype=np.int64)
        rate, own_rate = np.full(code.shape, np.nan), np.full(num, np.nan)
        chance = np.stack([uniform(self._seed, rows.row, draw) for draw in range(self._num)], axis=1)
        own = self._catalogue.codes(rows.item)
        order = np.argsort(rows.hour, kind="stable")
        for here in np.split(order, np.flatnonzero(np.diff(rows.hour[order])) + 1) if num else []:
            self._window.move(int(rows.hour[here[0]]))
            known = np.flatnonzero(self._window.weight)
            if len(known):
                code[here], rate[here], own_rate[here] = self._draw(known, chance[here], own[here])
        code[self._catalogue.is_taken(np.repeat(rows.request[:, None], self._num, axis=1), code)] = -1
        return Drawn(code=code, rate=rate, own_rate=own_rate)

    def _draw(self, known: Ints, chance: Floats, own: Ints) -> tuple[Ints, Floats, Floats]:
        """Codes and rates of the draws, and rates of the own items; one not known yet counts as the rarest known."""
        weight = self._window.weight[known].astype(np.float64) ** self._power
        upto = np.cumsum(weight)
        place = np.minimum(np.searchsorted(upto, chance * upto[-1], side="right"), len(known) - 1)
        rate = self._num * weight / upto[-1]
        at = np.minimum(np.searchsorted(known, own), len(known) - 1)
        return known[place], rate[place], np.where(known[at] == own, rate[at], rate.min())

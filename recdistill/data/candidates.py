"""Rows for items that a request did not show: the request's own row with another item, as that item was last seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.config.run import Run
from recdistill.data.belonging import Belonging
from recdistill.data.negatives.draw import uniform
from recdistill.data.store import ROWS, Records, Rows, open_rows
from recdistill.data.tables import splitmix
from recdistill.problems import BadInput, problem
from recdistill.types import FIRST_KNOWN

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Draw = Callable[[NDArray[np.float64], Ints], Ints]
_STREAM = 2**62  # draws that no negative has


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A run's rows as one encoder sees them. windows: all. rows: the one whose requests get candidates. own: what
    belongs to the item in all of them."""

    windows: Sequence[Rows]
    rows: Rows
    own: Belonging


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """[n] candidates of a segment, request by request, whatever the encoder.

    base: the place of the request's first row in its window. sighting: the item, as it was last seen; see Seen. which:
    its number among those of the request. popular, pooled: bool, whether it was drawn as a popular one, or for the pool
    of which the best are taken.
    """

    base: Ints
    sighting: Ints
    which: Ints
    popular: NDArray[np.bool_]
    pooled: NDArray[np.bool_]

    def highest(self, free: NDArray[np.bool_], value: NDArray[Any], count: int) -> Ints:
        """Places of the `count` highest of each request, among those that are free."""
        places = np.flatnonzero(free)
        order = np.lexsort((-value[places], self.base[places]))
        whose = self.base[places][order]
        rank = np.arange(len(order)) - np.searchsorted(whose, whose)
        return places[order[rank < count]]


class Seen:
    """When every item was seen, over all windows, and by which record. Memory: 40 bytes a row.

    Numbers of sightings are places in the order of time; an item that the train window did not hold is none.
    """

    def __init__(self, windows: Sequence[Rows], item: int) -> None:
        self.begins = np.cumsum([0, *map(len, windows)])
        time = np.concatenate([rows["time"] for rows in windows])
        items = np.concatenate([rows["ids"][:, item] for rows in windows]).astype(np.int64)
        known = np.flatnonzero(items >= FIRST_KNOWN)
        self.where = known[np.argsort(time[known], kind="stable")]
        self.time, self.items = time[self.where], items[self.where]
        self.step = len(self.where) + 1
        self.key = np.sort(self.items * self.step + np.arange(len(self.items)))
        _, first = np.unique(self.items, return_index=True)
        self.first = np.sort(first)

    def before(self, time: Ints) -> Ints:
        """[n] how many sightings there were strictly before."""
        return np.searchsorted(self.time, time)

    def any(self, chance: NDArray[np.float64], cut: Ints) -> Ints:
        """[n, k] items, each as likely as any other seen within the first `cut` sightings; 0 where none was."""
        num = np.searchsorted(self.first, cut)[:, None]
        return self._items(self.first, (chance * num).astype(np.int64), num)

    def popular(self, chance: NDArray[np.float64], cut: Ints) -> Ints:
        """[n, k] items, each as likely as it was often seen within the first `cut` sightings; 0 where none was."""
        return self._items(np.arange(len(self.items)), (chance * cut[:, None]).astype(np.int64), cut[:, None])

    def _items(self, sightings: Ints, place: Ints, num: Ints) -> Ints:
        if not len(sightings):
            return np.zeros(place.shape, dtype=np.int64)
        return np.where(num > 0, self.items[sightings[np.minimum(place, len(sightings) - 1)]], 0)

    def last(self, item: Ints, cut: Ints) -> Ints:
        """[n] the sighting of an item that was the last within the first `cut`; it must have been seen by then."""
        place = np.searchsorted(self.key, item * self.step + cut) - 1
        return self.key[place] % self.step

    def records(self, sighting: Ints, windows: Sequence[Rows]) -> Records:
        """[n] copies of the records of sightings in windows of the same rows, by whatever encoder."""
        where = self.where[sighting]
        window = np.searchsorted(self.begins, where, side="right") - 1
        out = np.zeros(len(where), dtype=windows[0].records.dtype)
        for number in np.unique(window):
            here = window == number
            out[here] = windows[number].take(where[here] - self.begins[number])
        return out


class Pools:
    """The candidates of a window's requests, in segments of whole requests; the same whenever and wherever made."""

    def __init__(self, run: Run, windows: Sequence[Rows], rows: Rows, seen: Seen, own: Belonging) -> None:
        settings = run.score.candidates
        assert settings is not None
        self.settings, self.rows, self.seen, self.seed = settings, rows, seen, run.seed
        self.encoded = Encoded(windows=windows, rows=rows, own=own)
        each = settings.per_request
        self.num_popular = each if "popular" in settings.by else 0
        self.num_pooled = settings.pool if {"teacher_top", "student_top"} & set(settings.by) else 0
        self.num_any = self.num_pooled + (each if "random" in settings.by else 0)
        _, self.first, sizes = np.unique(rows["request"], return_index=True, return_counts=True)
        self.most_shown = int(sizes.max(initial=0))
        self.size = max(1, run.score.rows_per_segment // self.num)
        self.shown = np.sort(np.concatenate([_pair(each["request"], each["ids"][:, own.item]) for each in windows]))

    @property
    def num(self) -> int:
        """Candidates of a request before the best are taken."""
        return self.num_popular + self.num_any

    @property
    def most_rows(self) -> int:
        """Of any segment."""
        return min(self.size, len(self.first)) * self.num

    def __len__(self) -> int:
        return -(-len(self.first) // self.size)

    def pick(self, number: int) -> Pick:
        """The candidates of a segment: `num` of each request or fewer, request by request."""
        first = self.first[number * self.size : (number + 1) * self.size]
        base = self.rows.take(first)
        cut = self.seen.before(base["time"])
        none = np.zeros((len(first), 0), dtype=np.int64)
        popular = self._draw(self.seen.popular, self.num_popular, base, cut, beside=none)
        others = self._draw(self.seen.any, self.num_any, base, cut, beside=popular)
        item = np.concatenate([popular, others], axis=1)
        pooled = np.zeros(item.shape, dtype=bool)
        pooled[:, popular.shape[1] :] = np.cumsum(others != 0, axis=1) <= self.num_pooled
        line, slot = np.nonzero(item)
        return Pick(
            base=first[line],
            sighting=self.seen.last(item[line, slot], cut[line]),
            which=np.arange(len(line)) - np.searchsorted(line, line),
            popular=slot < popular.shape[1],
            pooled=pooled[line, slot],
        )

    def rows_of(self, pick: Pick, encoded: Encoded | None = None) -> Rows:
        """The candidates as rows, as this run's encoder sees them or as another does.

        row_id: -1 - num * the request's first row_id - which, so unique and never a row of the log.
        label: 0, as nobody saw them. offset: 0.
        """
        encoded = encoded or self.encoded
        records = encoded.rows.take(pick.base)
        theirs = self.seen.records(pick.sighting, encoded.windows)
        for field, places in (("ids", encoded.own.ids), ("dense", encoded.own.dense)):
            if places:
                records[field][:, list(places)] = theirs[field][:, list(places)]
        records["row_id"] = -1 - (records["row_id"] * self.num + pick.which)
        records["label"] = records["offset"] = 0
        return replace(encoded.rows, records=records)

    def of(self, number: int) -> Rows:
        """The rows of a segment's candidates."""
        return self.rows_of(self.pick(number))

    def _draw(self, items: Draw, num: int, base: Records, cut: Ints, *, beside: Ints) -> Ints:
        """[G, k] items, at most `num` of them other than 0 in a line: none shown by the request, none twice or beside
        it."""
        if not num:
            return np.zeros((len(base), 0), dtype=np.int64)
        before = beside.shape[1]
        draws = 2 * num + self.most_shown + before
        chance = np.stack([uniform(self.seed, base["row_id"], _STREAM + before + n) for n in range(draws)], axis=1)
        item = items(chance, cut)
        pair = _pair(np.repeat(base["request"], draws), item.reshape(-1)).reshape(item.shape)
        place = np.minimum(np.searchsorted(self.shown, pair), len(self.shown) - 1)
        good = (item != 0) & (self.shown[place] != pair)
        good &= _is_first(np.concatenate([beside, item], axis=1))[:, before:]
        good &= np.cumsum(good, axis=1) <= num
        return np.where(good, item, 0)

    def best(self, pick: Pick, teacher: Floats, student: Floats | None = None) -> Ints:
        """Places of the rows to keep, in their order: of every kind the per_request that no earlier kind took.

        teacher, student: [n] their logits; None where no student is asked. Random ones are those drawn last, which lie
        outside the pool where there are enough items.
        """
        kept, each = pick.popular.copy(), self.settings.per_request
        for kind, logit in (("teacher_top", teacher), ("student_top", student)):
            if kind in self.settings.by and logit is not None:
                kept[pick.highest(pick.pooled & ~kept, logit, each)] = True
        if "random" in self.settings.by:
            kept[pick.highest(~kept, pick.which, each)] = True
        return np.flatnonzero(kept)


def _pair(request: Ints, item: NDArray[np.integer]) -> NDArray[np.uint64]:
    return splitmix(request.view(np.uint64) ^ splitmix(item.astype(np.uint64)))


def _is_first(item: Ints) -> NDArray[np.bool_]:
    """[G, k] whether an item stands in its line for the first time."""
    order = np.argsort(item, axis=1, kind="stable")
    ordered = np.take_along_axis(item, order, axis=1)
    first = np.ones(item.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    out = np.zeros_like(first)
    np.put_along_axis(out, order, first, axis=1)
    return out


def candidates_name(window: str) -> str:
    """The folder of a window's candidates in the score store."""
    return f"{window}-candidates"


def open_candidates(scored: Path, window: str, prepared: Path) -> Rows:
    """The candidates that the score step stored beside a window: rows to train on, scored as the window is.

    Their scores: open_scores(scored, candidates_name(window), rows, prepared).
    """
    rows = open_rows(prepared, window)
    path = scored / candidates_name(window) / ROWS
    if not path.is_file():
        remedy = "set score.candidates and run again"
        raise BadInput(problem(str(path), wanted="candidates of the window", found="none", remedy=remedy))
    return replace(rows, records=np.load(path, mmap_mode="r"))

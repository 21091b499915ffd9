"""Rows for items that a request did not show: the request's own row with another item, as that item was last seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recdistill.config.run import Run
from recdistill.data.negatives.draw import uniform
from recdistill.data.store import ROWS, Records, Rows, open_rows
from recdistill.data.tables import splitmix
from recdistill.problems import BadInput, problem
from recdistill.types import FIRST_KNOWN, Layout

Ints = NDArray[np.int64]
_STREAM = 2**62  # draws that no negative has


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """What belongs to an item in a record. item: the column of ids that says which it is. ids, dense: its columns."""

    item: int
    ids: tuple[int, ...]
    dense: tuple[int, ...]


def belonging(run: Run, layout: Layout) -> Belonging:
    """By the columns that features are read from. BadInput for what the config leaves open.

    A feature of the item's columns alone is the item's, one of none of them the request's; one of both has no value
    that was ever known for the pair.
    """
    settings, title, features = run.score.candidates, item_feature(run), run.features
    assert settings is not None
    target = next((f for f in layout.pooled if f.name == title and f.kind == "single"), None)
    if target is None:
        remedy = "name one in score.candidates.item"
        where = "score.candidates.item"
        raise BadInput(problem(where, wanted="an id feature of one value a row", found=str(title), remedy=remedy))
    own = _own_columns(run, str(title))
    read = {spec.title: set(spec.columns) for spec in features.ids}
    read |= {spec.title: {spec.column} for spec in features.dense}
    read |= {spec.title: set(spec.by) for spec in features.aggregates}
    both = [name for name, columns in read.items() if columns & own and columns - own]
    if both:
        remedy = "leave it out, or do without score.candidates"
        wanted = "features of the item alone or of the request alone"
        raise BadInput(
            [problem(f"score.candidates: {name}", wanted=wanted, found="both", remedy=remedy) for name in both]
        )
    ids = [f.columns for f in layout.pooled if read[f.name] and read[f.name] <= own]
    places = tuple(place for columns in ids for place in range(columns.start, columns.stop))
    dense = tuple(place for place, name in enumerate(layout.dense) if read[name] <= own)
    return Belonging(item=target.start, ids=places, dense=dense)


def item_feature(run: Run) -> str | None:
    """The id feature of what is ranked; None where nothing tells."""
    settings, features = run.score.candidates, run.features
    assert settings is not None
    column = run.data.negatives.item if run.data.negatives is not None else None
    of_column = next((spec.title for spec in features.ids if spec.column is not None and spec.column == column), None)
    return settings.item or of_column or (features.history.item if features.history is not None else None)


def _own_columns(run: Run, title: str) -> set[str]:
    """The item's column, and those that the config says go with it."""
    settings, negatives = run.score.candidates, run.data.negatives
    assert settings is not None
    own = {column for spec in run.features.ids if spec.title == title for column in spec.columns}
    keyed = {spec.column for spec in run.features.ids if spec.key in own and spec.column is not None}
    keyed |= {spec.column for spec in run.features.dense if spec.key in own}
    return own | keyed | {*settings.item_columns, *(negatives.item_columns if negatives else [])}


class Seen:
    """When every item was seen, over all windows, and by which record. Memory: 40 bytes a row.

    Numbers of sightings are places in the order of time; an item that the train window did not hold is none.
    """

    def __init__(self, windows: Sequence[Rows], item: int) -> None:
        self.windows = windows
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

    def records(self, sighting: Ints) -> Records:
        """[n] copies of the records of sightings."""
        where = self.where[sighting]
        window = np.searchsorted(self.begins, where, side="right") - 1
        out = np.zeros(len(where), dtype=self.windows[0].records.dtype)
        for number in np.unique(window):
            here = window == number
            out[here] = self.windows[number].take(where[here] - self.begins[number])
        return out


class Pools:
    """The candidates of a window's requests, in segments of whole requests; the same whenever and wherever made."""

    def __init__(self, run: Run, windows: Sequence[Rows], rows: Rows, seen: Seen, own: Belonging) -> None:
        settings = run.score.candidates
        assert settings is not None
        self.settings, self.rows, self.seen, self.own, self.seed = settings, rows, seen, own, run.seed
        _, self.first, sizes = np.unique(rows["request"], return_index=True, return_counts=True)
        self.most_shown = int(sizes.max(initial=0))
        self.size = max(1, run.score.rows_per_segment // self.num)
        self.shown = np.sort(np.concatenate([_pair(each["request"], each["ids"][:, own.item]) for each in windows]))

    @property
    def num(self) -> int:
        """Candidates of a request before the best are taken."""
        return self.settings.pool if self.settings.by == "teacher_top" else self.settings.per_request

    @property
    def most_rows(self) -> int:
        """Of any segment."""
        return min(self.size, len(self.first)) * self.num

    def __len__(self) -> int:
        return -(-len(self.first) // self.size)

    def of(self, number: int) -> Rows:
        """The rows of a segment's candidates: `num` of each request or fewer, request by request.

        row_id: -1 - (per_request or pool) * the request's first row_id - which, so unique and never a row of the log.
        label: 0, as nobody saw them. offset: 0.
        """
        first = self.first[number * self.size : (number + 1) * self.size]
        base = self.rows.take(first)
        cut = self.seen.before(base["time"])
        item = self._draw(base, cut)
        line, slot = np.nonzero(item)
        chosen = item[line, slot]
        records = base[line]
        theirs = self.seen.records(self.seen.last(chosen, cut[line]))
        for field, places in (("ids", self.own.ids), ("dense", self.own.dense)):
            if places:
                records[field][:, list(places)] = theirs[field][:, list(places)]
        which = np.arange(len(line)) - np.searchsorted(line, line)
        records["row_id"] = -1 - (base["row_id"][line] * self.num + which)
        records["label"] = records["offset"] = 0
        return replace(self.rows, records=records)

    def _draw(self, base: Records, cut: Ints) -> Ints:
        """[G, k] items, at most `num` of them other than 0 in a line: none shown by the request, none twice."""
        draws = 2 * self.num + self.most_shown
        chance = np.stack([uniform(self.seed, base["row_id"], _STREAM + n) for n in range(draws)], axis=1)
        item = (self.seen.popular if self.settings.by == "popular" else self.seen.any)(chance, cut)
        pair = _pair(np.repeat(base["request"], draws), item.reshape(-1)).reshape(item.shape)
        place = np.minimum(np.searchsorted(self.shown, pair), len(self.shown) - 1)
        good = (item != 0) & (self.shown[place] != pair) & _is_first(item)
        good &= np.cumsum(good, axis=1) <= self.num
        return np.where(good, item, 0)

    def best(self, rows: Rows, logit: NDArray[np.float32]) -> Ints:
        """Places of the rows to keep, in their order: the per_request highest of each request."""
        if self.settings.by != "teacher_top":
            return np.arange(len(rows))
        order = np.lexsort((-logit, rows["request"]))
        request = rows["request"][order]
        rank = np.arange(len(order)) - np.searchsorted(request, request)
        return np.sort(order[rank < self.settings.per_request])


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

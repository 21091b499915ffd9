"""Numbers about the past of a key as of each row's time: counts, smoothed means, recency; never of its own instant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recdistill.config.features import Aggregate
from recdistill.config.run import Run
from recdistill.data.buckets import Buckets, groups, known_before
from recdistill.data.encoder import Encoder
from recdistill.data.log.values import stable_key
from recdistill.data.scale import Numbers
from recdistill.data.tables import splitmix
from recdistill.data.view import Slice, View

Ints = NDArray[np.int64]
_NEVER = np.int64(-(2**62))
_FIELDS = [("key", "<i8"), ("time", "<i8"), ("slot", "<i8"), ("event", "<i1"), ("value", "<f8")]


class Aggregates:
    """All aggregates of a run, on disk by slot: a total.npy (the last time, for recency) and a count.npy each."""

    def __init__(self, run: Run, view: View, folder: Path, encoder: Encoder | None = None) -> None:
        self.specs = run.features.aggregates
        means = {s.title for s in self.specs if s.value == "mean"} if encoder is None else set()
        self.means = {s.title: _mean(s, view) for s in self.specs if s.title in means}
        self.means |= {} if encoder is None else encoder.means
        num_rows = sum(len(piece) for piece in view.slices()) if self.specs else 0
        self.found = {}
        for number, spec in enumerate(self.specs):
            path = folder / f"aggregate-{number:02d}"
            path.mkdir(parents=True)
            self.found[spec.title] = _build(view, spec, path, num_rows)

    def __call__(self, piece: Slice) -> dict[str, Numbers]:
        """[n] of each aggregate: a count, a smoothed mean, or seconds (NaN where nothing came before)."""
        place = slice(piece.first_slot, piece.first_slot + len(piece))
        out: dict[str, Numbers] = {}
        for spec in self.specs:
            total, count = (array[place] for array in self.found[spec.title])
            if spec.value == "mean":
                out[spec.title] = (total + spec.prior * self.means[spec.title]) / (count + spec.prior)
            elif spec.value == "count":
                out[spec.title] = np.asarray(count, dtype=np.float64)
            else:
                gone = (piece["time"] - total) / 1e6
                out[spec.title] = np.where(count > 0, gone, np.nan)
        return out


def _mean(spec: Aggregate, view: View) -> float:
    """Of the outcome over the train window: what the mean of a key without events is taken to be."""
    total = num = 0.0
    for piece in view.slices():
        value, event = _outcome(spec, piece)
        inside = piece.train & event & ~np.isnan(value)
        total, num = total + float(value[inside].sum()), num + float(inside.sum())
    return total / num if num else 0.0


def _outcome(spec: Aggregate, piece: Slice) -> tuple[Numbers, NDArray[np.bool_]]:
    """[n] the outcome, and whether the row is an event that counts."""
    value = piece["label"].astype(np.float64) if spec.of is None else piece.of(piece.segment.numbers(spec.of))
    event = piece.happened
    if spec.of is not None and spec.value != "mean":
        event = event & ~np.isnan(value) & (value != 0)
    return value, event & ~np.isnan(value)


def _build(view: View, spec: Aggregate, folder: Path, num_rows: int) -> tuple[Numbers, Numbers]:
    """Memory-mapped by slot: the sum (or the last time) and the count of what was known."""
    buckets = Buckets(folder, _FIELDS, num_rows)
    for piece in view.slices():
        value, event = _outcome(spec, piece)
        row, key = _keys(piece, spec.by)
        time, slots = piece["time"], piece.slots
        fields = {"key": key, "time": time[row], "slot": slots[row], "event": event[row]}
        buckets.add("key", {**fields, "value": np.where(event, value, 0.0)[row]})
    total, count = (
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float64, shape=(num_rows,))
        for name in ("total", "count")
    )
    if spec.value == "recency":
        total[:] = _NEVER
    delay = spec.delay // timedelta(microseconds=1)
    for rows in buckets.sorted(("slot", "time", "key")):
        _settle(rows, delay, spec.value, total, count)
    return total, count


def _settle(rows: NDArray[np.void], delay: int, kind: str, total: Numbers, count: Numbers) -> None:
    """Add one bucket's share to the rows' totals and counts."""
    start = groups(rows["key"])
    end = known_before(start, rows["time"], rows["time"] - delay)
    event = rows["event"].astype(np.float64)
    number = np.concatenate([[0.0], np.cumsum(event)])
    known = number[end] - number[start]
    slot = rows["slot"]
    if kind == "recency":
        at = np.where(event > 0, rows["time"], _NEVER)
        newest = _running_max(at, start)
        last = np.where(known > 0, newest[np.maximum(end - 1, 0)], _NEVER).astype(np.float64)
        np.maximum.at(total, slot, last)
    else:
        summed = np.concatenate([[0.0], np.cumsum(rows["value"])])
        np.add.at(total, slot, summed[end] - summed[start])
    np.add.at(count, slot, known)


def _running_max(at: Ints, start: Ints) -> Ints:
    """[n] the greatest of `at` from the row's start to the row; times ascend within a key, so events do too."""
    number = np.where(at > _NEVER, np.arange(len(at)), -1)
    last = np.maximum.accumulate(number) if len(at) else number
    return np.where(last >= start, at[np.maximum(last, 0)], _NEVER)


def _keys(piece: Slice, names: Sequence[str]) -> tuple[Ints, Ints]:
    """(row of the slice, 64-bit key) of every key that a row has; a pair gives all combinations; nulls give none."""
    row, key = np.arange(len(piece)), np.zeros(len(piece), dtype=np.uint64)
    for name in names:
        source = piece.segment.whole_key(name)
        values = piece.segment.values(source)
        hashed = stable_key(values).view(np.uint64) if len(values) else np.zeros(1, dtype=np.uint64)
        rows, keys = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.uint64)]
        for codes in piece.segment.codes(source):
            code = piece.of(codes)[row]
            has = code >= 0
            rows.append(row[has])
            keys.append(splitmix(key[has] ^ hashed[code[has]]))
        row, key = np.concatenate(rows), np.concatenate(keys)
    return row, key.view(np.int64)

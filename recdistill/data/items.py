"""Which feature of a log is the item, and how often its values occur."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recdistill.config.run import Run
from recdistill.data.store import Rows
from recdistill.problems import BadInput, problem
from recdistill.types import FIRST_KNOWN, IdFeature, Layout

_CHUNK = 262_144


def find_item(run: Run, layout: Layout) -> IdFeature | None:
    """The item that negatives are drawn of, or else that of the history; None where a run names neither."""
    name = run.data.negatives.item if run.data.negatives is not None else None
    return next((feature for feature in layout.pooled if feature.name == name), layout.target)


def item_of(run: Run, layout: Layout) -> IdFeature:
    """The same, for whoever needs it. BadInput where there is none."""
    found = find_item(run, layout)
    if found is None:
        where, wanted = "features.history", "a history or data.negatives, which say what the item is"
        raise BadInput(problem(where, wanted=wanted, found="neither", remedy="name a history of the items"))
    return found


def item_ids(rows: Rows, item: IdFeature) -> NDArray[np.int32]:
    """[N] the item of each row of a window."""
    parts = [rows.ids(place)[:, item.start] for place in _pieces(len(rows))]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)


def item_counts(rows: Rows, item: IdFeature) -> NDArray[np.int64]:
    """[V] rows of a window by item; the absent and the unknown item are counted too."""
    counts = np.zeros(item.num_rows, dtype=np.int64)
    for place in _pieces(len(rows)):
        counts += np.bincount(rows.ids(place)[:, item.start], minlength=item.num_rows)
    return counts


def positive_counts(rows: Rows, item: IdFeature) -> NDArray[np.int64]:
    """[V] positive rows of a window by item; 0 for the absent and the unknown item."""
    counts = np.zeros(item.num_rows, dtype=np.int64)
    for place in _pieces(len(rows)):
        ids = rows.ids(place)[:, item.start]
        counts += np.bincount(ids[rows["label"][place] > 0], minlength=item.num_rows)
    counts[:FIRST_KNOWN] = 0
    return counts


def _pieces(num_rows: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + _CHUNK, num_rows)) for start in range(0, num_rows, _CHUNK)]

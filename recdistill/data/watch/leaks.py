"""Features that know the label too well: each alone, fitted on the train window and judged on the valid one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.data.store import Rows
from recdistill.data.watch.bins import below, now, observed, parts, sample
from recdistill.metrics.ranking import plain_auc
from recdistill.problems import problem
from recdistill.types import FIRST_KNOWN, IdFeature, Layout

ROWS_TO_PROBE = 50_000
_PRIOR = 10.0  # rows of the mean rate that every value's own rate is smoothed with
_NUM_BINS = 50
_FEWEST = 30  # rows of either class below which an AUC of 1 is luck
_PURE, _SUPPORT, _COMMON, _MOST_DECIDED = 0.995, 100, 0.9, 0.1

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """What is tried alone. num_ids: how many ids there are; None for a number.

    read: ids [n, K] and dense [n, D] -> [n, width] 0-padded ids, or [n] numbers.
    """

    title: str
    num_ids: int | None
    read: Callable[[Ints, NDArray[np.float32]], NDArray[Any]]


def leaks(train: Rows, valid: Rows, *, limit: float, exempt: Collection[str] = ()) -> list[str]:
    """A problem per feature whose AUC on the valid window, by itself, is above `limit`, or whose values settle labels.

    An id, a bag, the newest id of a history: the smoothed label rate of every id in the train window (`rate_of`). Two
    features of one table: whether they hold the same id. A number: itself, its negative, and the label rate of 50 bins
    of equal size. About 50,000 rows of each window are looked at. exempt: names of features that may know what came of
    the row, since they feed the teacher only. A limit of 1 finds
    nothing, and so does a valid window with fewer than 30 rows of a class.
    """
    if limit >= 1:
        return []
    probes = list(_probes(train.layout, exempt))
    there, there_label = _read(train, probes)
    here, here_label = _read(valid, probes)
    if min(here_label.sum(), len(here_label) - here_label.sum()) < _FEWEST:
        return []
    lines = []
    for probe in probes:
        given = (there.pop(probe.title), there_label, here.pop(probe.title), here_label)
        found = _numbers_auc(*given) if probe.num_ids is None else _ids_auc(*given, probe.num_ids)
        if found > limit:
            lines.append(_line(probe.title, f"a valid AUC by itself of at most {limit:g}", f"{found:.4f}"))
        elif probe.num_ids is not None and (settled := _settled(*given, probe.num_ids)) > _MOST_DECIDED:
            wanted = f"values that settle the label of at most {_MOST_DECIDED:.0%} of the rows of a class"
            lines.append(_line(probe.title, wanted, f"{settled:.1%}"))
    return lines


def _line(title: str, wanted: str, found: str) -> str:
    remedy = (
        "drop it if it is known only after the outcome, mark it `serve: never` if it may teach, "
        "or raise data.contract.max_single_auc (1 looks at nothing)"
    )
    return problem(f"feature {title}", wanted=wanted, found=found, remedy=remedy)


def _probes(layout: Layout, exempt: Collection[str]) -> Iterator[_Probe]:
    features = [feature for feature in layout.ids if feature.name not in exempt]
    for feature in features:
        yield _Probe(title=feature.name, num_ids=feature.num_rows, read=_newest(feature))
    for one in features:
        for other in features:
            if one.kind == "single" and one.table == other.table and one.start < other.start:
                title = f"{other.name} (holds {one.name})"
                yield _Probe(title=title, num_ids=None, read=_holds(one, other))
    for place, name in enumerate(layout.dense):
        if name not in exempt:
            yield _Probe(title=name, num_ids=None, read=_number(place))


def _newest(feature: IdFeature) -> Callable[[Ints, NDArray[np.float32]], NDArray[Any]]:
    return lambda ids, dense: ids[:, now(feature)].astype(np.int32)


def _holds(one: IdFeature, other: IdFeature) -> Callable[[Ints, NDArray[np.float32]], NDArray[Any]]:
    def read(ids: Ints, dense: NDArray[np.float32]) -> NDArray[Any]:
        value = ids[:, one.columns]
        held = ((ids[:, other.columns] == value) & (value >= FIRST_KNOWN)).any(axis=1)
        return held.astype(np.float32)

    return read


def _number(place: int) -> Callable[[Ints, NDArray[np.float32]], NDArray[Any]]:
    return lambda ids, dense: dense[:, place]


def _read(rows: Rows, probes: list[_Probe]) -> tuple[dict[str, NDArray[Any]], Floats]:
    """What every probe reads of the sampled rows, and their labels [n]."""
    found: dict[str, list[NDArray[Any]]] = {probe.title: [] for probe in probes}
    labels: list[NDArray[Any]] = []
    for part in parts(sample(rows, ROWS_TO_PROBE)):
        ids, dense = rows.ids(part), rows.dense(part)
        labels.append(rows["label"][part])
        for probe in probes:
            found[probe.title].append(probe.read(ids, dense))
    return {title: np.concatenate(blocks) for title, blocks in found.items()}, np.concatenate(labels).astype(np.float64)


def rate_of(value: NDArray[np.integer[Any]], label: Floats, num_ids: int) -> Floats:
    """[num_ids] smoothed label rate of every id: (positives + 10 m) / (rows + 10), with m the mean label.

    >>> rate_of(np.array([2, 2, 3]), np.array([1.0, 1.0, 0.0]), 5).round(4).tolist()  # m = 2/3; 26/36, 20/33, 2/3
    [0.6667, 0.6667, 0.7222, 0.6061, 0.6667]
    """
    rows, positives = np.bincount(value, minlength=num_ids), np.bincount(value, label, minlength=num_ids)
    return np.asarray((positives + _PRIOR * label.mean()) / (rows + _PRIOR))


def _ids_auc(there: Ints, there_label: Floats, here: Ints, here_label: Floats, num_ids: int) -> float:
    """Of the mean rate of a row's ids."""
    row, value = observed(there)
    rate = rate_of(value, there_label[row], num_ids)
    row, value = observed(here)
    return plain_auc(np.bincount(row, rate[value]) / np.bincount(row), here_label)


def _numbers_auc(there: Floats, there_label: Floats, here: Floats, here_label: Floats) -> float:
    """The best of the number itself, its negative and the rate of its bin."""
    edges = np.unique(np.quantile(there, np.linspace(0, 1, _NUM_BINS + 1)[1:-1]))
    rate = rate_of(below(edges, there), there_label, len(edges) + 1)
    plain = plain_auc(here, here_label)
    return max(plain, 1 - plain, plain_auc(rate[below(edges, here)], here_label))


def _settled(there: Ints, there_label: Floats, here: Ints, here_label: Floats, num_ids: int) -> float:
    """Greatest share of a class's valid rows that lie under ids which say that class and nothing else.

    Such an id has 100 train rows or more, and 99.5% of its train rows and of all such ids' valid rows are of the class.
    A class that 90% of the rows belong to anyhow is not looked at: there, a banner that nobody clicks is no leak.
    """
    shares = [0.0]
    row, value = observed(there)
    num = np.bincount(value, minlength=num_ids)
    here_row, here_value = observed(here)
    for label, is_class in ((there_label, here_label == 1), (1 - there_label, here_label == 0)):
        pure = (num >= _SUPPORT) & (np.bincount(value, label[row], num_ids) >= _PURE * num)
        says = np.bincount(here_row, pure[here_value]) > 0
        right = int((says & is_class).sum())
        if label.mean() <= _COMMON and right >= max(_PURE * says.sum(), 1):
            shares.append(right / is_class.sum())
    return max(shares)

"""How far each feature of each partition, and of the whole valid and test windows, lies from the train window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recdistill.data.store import Rows
from recdistill.data.watch.bins import MISSING, UNKNOWN, Bins, Counts, count, cut
from recdistill.files import read_json, write_json

FLOOR = 1e-4
_MOST_NOISE = 0.1
_TABLE, _SUMMARY = "drift.parquet", "drift.json"
_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("window", "partition", "feature")]
    + [pa.field("rows", pa.int64(), nullable=False)]
    + [(name, pa.float64()) for name in ("unknown", "absent", "absent_change", "psi", "js", "psi_noise")]
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Numbers = Ints | Floats


def drift(
    windows: Mapping[str, Rows],
    partition_of: Callable[[Ints], Ints],
    names: Sequence[str],
    *,
    keep_negatives: float = 1.0,
) -> pa.Table:
    """One line per partition that has rows in a window and feature, and per whole window but train and feature.

    windows: "train", which has rows, and any others. partition_of: row_ids -> numbers of their partitions, places in
    `names`. keep_negatives: share of the train window's negatives that were kept, each of which counts for several.
    Columns: window, partition ("valid window" for the whole of it), feature, rows; unknown: share of
    out-of-vocabulary among the values present, null for numbers and lengths; absent: share of absent; absent_change:
    that less the train window's; psi, js: distance of the distribution over the bins (`bins.cut`) from the train
    window's; psi_noise: the psi to expect of that many rows without any drift. A window without rows has nulls. Of more
    than 250,000 rows of a window, about so many are counted, chosen by a hash of their numbers.
    """
    bins = cut(windows["train"])
    weights = {window: 1 / keep_negatives if window == "train" else 1.0 for window in windows}
    counted = {w: count(rows, bins, partition_of, len(names), weights[w]) for w, rows in windows.items()}
    train = _with_whole(counted["train"])
    tables = [_lines(window, names, _with_whole(found), train, bins) for window, found in counted.items()]
    return pa.concat_tables(tables)


def _with_whole(counts: Counts) -> Counts:
    """The same with the sum over all partitions as a first line."""
    return Counts(
        rows=np.r_[counts.rows.sum(), counts.rows],
        bins=[np.concatenate([found.sum(axis=0, keepdims=True), found]) for found in counts.bins],
    )


def _lines(window: str, names: Sequence[str], counts: Counts, train: Counts, bins: Sequence[Bins]) -> pa.Table:
    kept = np.flatnonzero(np.r_[window != "train", counts.rows[1:] > 0])
    partition = np.array([f"{window} window", *names], dtype=object)[kept]
    rows = counts.rows[kept]
    values = [
        _compared(found[kept], rows, base[0], int(train.rows[0]), one)
        for found, base, one in zip(counts.bins, train.bins, bins, strict=True)
    ]
    columns: dict[str, Any] = {
        "window": [window] * (len(kept) * len(bins)),
        "partition": np.repeat(partition, len(bins)),
        "feature": [one.name for one in bins] * len(kept),
        "rows": np.repeat(rows, len(bins)),
    }
    columns |= {name: np.stack([value[name] for value in values], axis=1).ravel() for name in values[0]}
    arrays = [pa.array(columns[field.name], type=field.type, from_pandas=True) for field in _SCHEMA]
    return pa.table(arrays, schema=_SCHEMA)


def _compared(found_PB: Floats, rows_P: Ints, base_B: Floats, train_rows: int, bins: Bins) -> dict[str, Floats]:
    """The measures of one feature in each partition, NaN where there is nothing to measure."""
    total = found_PB.sum(axis=1)
    absent = _ratio(found_PB[:, MISSING], total)
    unknown = _ratio(found_PB[:, UNKNOWN], total - found_PB[:, MISSING])
    occupied = ((found_PB > 0) | (base_B > 0)).sum(axis=1)
    return {
        "unknown": unknown if bins.has_unknown else np.full(len(total), np.nan),
        "absent": absent,
        "absent_change": absent - _ratio(base_B[MISSING], base_B.sum()),
        "psi": psi(found_PB, base_B),
        "js": js(found_PB, base_B),
        "psi_noise": psi_noise(occupied, rows_P, train_rows),
    }


def _ratio(above: Any, below: Any) -> Floats:
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)


def _shares(counts: Numbers) -> Floats:
    return _ratio(counts, np.broadcast_to(counts.sum(axis=-1, keepdims=True), counts.shape))


def psi(found: Numbers, base: Numbers) -> Floats:
    """Population stability index of counts [..., B] against counts [B]: [...], >= 0, NaN where either has no rows.

    sum over bins of (p - q) ln(p / q), with p and q the shares of the bin (the symmetrised Kullback-Leibler divergence
    of Jeffreys, 1946; as an index: Siddiqi, Credit Risk Scorecards, 2006, where 0.1 is small and 0.25 large). Shares
    below 0.0001 count as 0.0001, so that an empty bin stays finite. Adding a constant to the counts, as Laplace does,
    would do that too, but equal shares of unequal numbers of rows would differ, and the worth of a bin that is empty in
    the train window by construction (out of vocabulary) would grow with the log.

    >>> bool(np.isclose(psi(np.array([6, 4]), np.array([20, 20])), 0.1 * np.log(0.6 / 0.5) - 0.1 * np.log(0.4 / 0.5)))
    True
    """
    p, q = np.maximum(_shares(found), FLOOR), np.maximum(_shares(base), FLOOR)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def js(found: Numbers, base: Numbers) -> Floats:
    """Jensen-Shannon distance (base 2) of counts [..., B] from counts [B]: [...] in [0, 1], NaN where one has no rows.

    sqrt(H((p + q) / 2) - (H(p) + H(q)) / 2), with H the entropy in bits: a metric (Endres & Schindelin, IEEE Trans.
    Inf. Theory 2003); 1 where the two share no bin.

    >>> js(np.array([[5, 0], [3, 3], [0, 2]]), np.array([7, 0])).round(4).tolist()
    [0.0, 0.5579, 1.0]
    """
    p, q = _shares(found), _shares(base)
    return np.asarray(np.sqrt(np.clip(_entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2, 0, 1)))


def _entropy(share: Floats) -> Floats:
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(-(share * logs).sum(axis=-1))


def psi_noise(num_bins: Ints, rows: Ints, train_rows: int) -> Floats:
    """The PSI to expect of n rows against m rows of one and the same distribution: (B - 1) (1/n + 1/m).

    To first order ln(p / q) is (p - q) / r, with r the true share, so PSI is the sum of (p - q)^2 / r; and the variance
    of p - q is r (1 - r) (1/n + 1/m), which leaves the sum of 1 - r, which is B - 1. B counts the bins that either side
    holds. (Yurdakul & Naranjo, Statistical properties of the population stability index, 2020: 1/n + 1/m times a
    chi-squared of B - 1 degrees.) It takes rows for independent: for rows that come in bursts of alike ones it is too
    low; for partitions of the train window, which are part of what they are held against, a little too high.

    >>> psi_noise(np.array([11]), np.array([100]), 1000).round(6).tolist()  # 10 * (0.01 + 0.001)
    [0.11]
    """
    return (num_bins - 1) * (_ratio(1, rows) + _ratio(1, train_rows))


def write_drift(folder: Path, table: pa.Table) -> None:
    """Write drift.parquet, and drift.json: max_psi and max_unknown of the whole test window, each with its feature.

    null where there is nothing to measure.
    """
    pq.write_table(table, folder / _TABLE, write_page_checksum=True)
    test = table.filter(pc.equal(table.column("partition"), "test window"))
    psi_feature, max_psi = _greatest(test, "psi")
    unknown_feature, max_unknown = _greatest(test, "unknown")
    summary = {"max_psi": max_psi, "psi_feature": psi_feature}
    write_json(folder / _SUMMARY, {**summary, "max_unknown": max_unknown, "unknown_feature": unknown_feature})


def _greatest(table: pa.Table, name: str) -> tuple[str | None, float | None]:
    known = table.filter(table.column(name).is_valid())
    if not known.num_rows:
        return None, None
    place = int(np.argmax(known.column(name).to_numpy()))
    return known.column("feature")[place].as_py(), known.column(name)[place].as_py()


def drift_files(folder: Path) -> list[Path]:
    """The files that `write_drift` wrote; none where it did not."""
    return [path for path in (folder / _TABLE, folder / _SUMMARY) if path.is_file()]


def drift_summary(folder: Path) -> dict[str, Any] | None:
    """What `write_drift` put into drift.json; None where there is none."""
    path = folder / _SUMMARY
    return read_json(path) if path.is_file() else None


def render(table: pa.Table, worst: int = 10) -> list[str]:
    """The lines that lie furthest above their noise, worst first, under a heading, as text.

    Lines of so few rows that noise alone would be a drift of 0.1 are left out.
    """
    lines = table.filter(pc.less_equal(table.column("psi_noise"), _MOST_NOISE)).to_pylist()
    lines.sort(key=lambda line: line["psi_noise"] - line["psi"])
    cells = [["window", "partition", "feature", "rows", "psi", "noise", "js", "unknown", "absent"]]
    for line in lines[:worst]:
        shown = [f"{line[name]:.4f}" for name in ("psi", "psi_noise", "js")]
        unknown = "" if line["unknown"] is None else f"{line['unknown']:.2%}"
        absent = f"{line['absent']:.2%} ({line['absent_change']:+.2%})"
        cells.append([line["window"], line["partition"], line["feature"], f"{line['rows']:,}", *shown, unknown, absent])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(_padded(cell, width, place) for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]


def _padded(cell: str, width: int, place: int) -> str:
    return cell.ljust(width) if place < 3 else cell.rjust(width)

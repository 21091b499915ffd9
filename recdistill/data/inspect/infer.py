"""A contract drafted from a profile: what the log satisfies today, with some slack, as YAML to read and mend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.types as pt
import yaml

from recdistill.config.data import Contract
from recdistill.config.run import Run
from recdistill.data.contract.outside import fitting, is_list
from recdistill.data.contract.whole import LEAST_FOR_A_RATE, missing
from recdistill.data.inspect.column import ColumnProfile
from recdistill.data.inspect.profile import Profile, profile
from recdistill.data.log.listing import Log
from recdistill.data.negatives.check import ADDED
from recdistill.data.prepare import open_checked

Line = tuple[str, str]  # YAML, and the evidence for it


def infer(run: Run, folder: Path, slack: float) -> str:
    """The draft for a run's log, whatever contract the run has; all that is written is under `folder`."""
    data = run.data.model_copy(update={"contract": Contract()})
    log = open_checked(run.model_copy(update={"root": str(folder), "data": data}))
    return draft(run, log, profile(run, log), slack)


def draft(run: Run, log: Log, found: Profile, slack: float) -> str:
    """A `contract:` section to paste under `data:`, with the evidence in comments. slack: share that bounds give way.

    Hive keys have no rules, nor have the columns that sampling added.
    """
    ours = {*log.constants, *(ADDED.names if run.data.negatives is not None else ())}
    columns = [one for one in found.columns if one.name not in ours]
    about = f"drafted from {log.num_rows:,} rows in {len(log.files):,} files: read it and mend it"
    lines: list[Line] = [("contract:", about)]
    lines += [("  columns:", "")] + [(f"    {text}", why) for text, why in (_rule(run, one, slack) for one in columns)]
    whole = [*_earliest(run, columns), *_sizes(run, log, found), *_rate(run, log, found, slack)]
    lines += [(f"  {text}", why) for text, why in whole]
    return "".join(f"  {text}  # {why}\n" if why else f"  {text}\n" for text, why in lines)


def _rule(run: Run, one: ColumnProfile, slack: float) -> Line:
    rule: dict[str, Any] = {"type": str(one.type)}
    if one.num_nulls:
        rule["nulls"] = True
    if _listed(run, one):
        rule["allowed"] = sorted(one.values or ())
    elif _measured(run, one):
        rule["min"], rule["max"] = _bounds(one, slack)
    if one.num_rows > one.num_nulls and "allowed" not in rule and one.longest is not None and not is_list(one.type):
        rule["max_length"] = _more(one.longest, slack)
    if is_list(one.type) and one.high is not None:
        rule["max_length"] = _more(one.high, slack)
    return f"{_yaml(one.name)}: {_yaml(rule)}", _evidence(one)


def _more(length: int, slack: float) -> int:
    return max(1, math.ceil(length * (1 + slack)))


def _evidence(one: ColumnProfile) -> str:
    nulls = f"{one.num_nulls / one.num_rows:.2%} nulls" if one.num_nulls else "no nulls"
    about = "" if one.distinct_error is None else "about "
    parts = [nulls] + ([f"{about}{one.num_distinct:,} distinct"] if one.num_distinct is not None else [])
    if one.num_not_finite:
        parts.append(f"{one.num_not_finite:,} not finite")
    if one.low is not None:
        parts.append(f"{'lengths ' if is_list(one.type) else ''}{_text(one.low)} to {_text(one.high)}")
    if one.longest is not None:
        parts.append(f"longest {one.longest}")
    return ", ".join(parts)


def _text(value: Any) -> str:
    return value.isoformat(" ", "seconds") if isinstance(value, datetime) else f"{value:.6g}"


def _identity(run: Run) -> set[str]:
    """Columns whose values are names: few of them today says nothing about tomorrow."""
    data, history = run.data, run.features.history
    by_title = {spec.title: spec.columns for spec in run.features.ids}
    items = [*by_title.get(history.item, []), history.per] if history else []
    return {str(n) for n in (data.time, data.user, data.request.column, *data.contract.unique, *items) if n is not None}


def _listed(run: Run, one: ColumnProfile) -> bool:
    """Whether all its values can be named: there are few, and none is a name, an instant or not finite."""
    if not one.values or one.num_not_finite or one.name in _identity(run):
        return False
    try:
        return all(fitting(one.type, value) == value for value in one.values)
    except (ValueError, TypeError):
        return False


def _measured(run: Run, one: ColumnProfile) -> bool:
    """Whether it is a quantity: a fraction, or a whole number that the config reads as a number."""
    if one.low is None or one.num_not_finite or isinstance(one.low, datetime) or one.name in _identity(run):
        return False
    features, label = run.features, run.data.label
    read = {s.column for s in features.dense} | {s.of for s in features.aggregates}
    read |= {s.column for s in features.ids if s.edges or s.quantiles}
    read |= set(features.history.outcomes) if features.history else set()
    read |= {label.column} if label.at_least is not None else set()
    whole = pt.is_integer(one.type)
    return pt.is_floating(one.type) or pt.is_decimal(one.type) or (whole and one.name in read)


def _bounds(one: ColumnProfile, slack: float) -> tuple[float, float]:
    """Least and greatest, wider by slack of their distance on either side, rounded outwards; no sign is added."""
    low, high = float(one.low), float(one.high)
    give = slack * (high - low)
    if not give or not math.isfinite(low - give) or not math.isfinite(high + give):
        return low, high
    step = 10.0 ** math.floor(math.log10(give))
    lower, upper = math.floor((low - give) / step) * step, math.ceil((high + give) / step) * step
    lower, upper = float(f"{lower:.12g}"), float(f"{upper:.12g}")
    return min(low, max(lower, 0.0) if low >= 0 else lower), max(high, min(upper, 0.0) if high <= 0 else upper)


def _earliest(run: Run, columns: Sequence[ColumnProfile]) -> list[Line]:
    """The day of the first event."""
    at = next((one.low for one in columns if one.name == run.data.time), None)
    if not isinstance(at, datetime):
        return []
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [(f"earliest: {day:%Y-%m-%dT%H:%M:%SZ}", f"the first event is of {_text(at)}")]


def _sizes(run: Run, log: Log, found: Profile) -> list[Line]:
    """Half of the smallest there is."""
    partition = run.data.partition
    if partition is None:
        least = min(found.file_rows)
        return [(f"min_rows: {max(1, least // 2)}", f"the smallest file has {least:,}")]
    rows = [total for total, _ in _by_partition(run, log, found)]
    lines = [(f"min_rows_per_partition: {min(rows) // 2}", f"the smallest of {len(rows):,} has {min(rows):,}")]
    gaps = len(missing(partition, log.files))
    if len(rows) < 2 or gaps:
        return lines
    return [*lines, ("complete: true", f"no {partition.length} is missing between the first and the last")]


def _by_partition(run: Run, log: Log, found: Profile) -> list[tuple[int, float]]:
    assert run.data.partition is not None
    column = run.data.partition.column
    files = zip(log.files, found.file_rows, found.file_positives, strict=True)
    keyed = sorted(((file.partition.get(column, ""), rows, positives) for file, rows, positives in files))
    groups = [list(group) for _, group in groupby(keyed, key=lambda one: one[0])]
    return [(sum(rows for _, rows, _ in group), sum(num for _, _, num in group)) for group in groups]


def _rate(run: Run, log: Log, found: Profile, slack: float) -> list[Line]:
    total, positives = sum(found.file_rows), sum(found.file_positives)
    if not total:
        return []
    groups = [] if run.data.partition is None else _by_partition(run, log, found)
    rates = [positives / total] + [num / rows for rows, num in groups if rows >= LEAST_FOR_A_RATE]
    low = math.floor(max(0.0, min(rates) * (1 - slack)) * 1e4) / 1e4
    high = math.ceil(min(1.0, max(rates) * (1 + slack)) * 1e4) / 1e4
    of = f", {min(rates):.4f} to {max(rates):.4f} by partition" if len(rates) > 1 else ""
    return [(f"label_rate: {_yaml([low, high])}", f"{positives / total:.4f} of all rows{of}")]


def _yaml(value: Any, style: str | None = None) -> str:
    """On one line, where need be by quoting everything."""
    text: str = yaml.safe_dump(
        value,
        default_style=style,
        default_flow_style=True,
        width=math.inf,
        allow_unicode=style is None,
        sort_keys=False,
    )
    text = text.strip().removesuffix("\n...")
    return text if "\n" not in text else _yaml(value, '"')

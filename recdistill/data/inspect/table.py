"""A profile as a table that fits a terminal of 120 columns."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from recdistill.data.contract.outside import is_list
from recdistill.data.inspect.column import ColumnProfile
from recdistill.data.inspect.counting import ERROR
from recdistill.data.inspect.profile import SAMPLE, Profile

WIDTH = 120
_WORTH = 0.01  # share from which the most frequent one of many values is worth a line
_TITLES = ("column", "type", "nulls", "distinct", "least .. 1 | 25 | 50 | 75 | 99% .. greatest, or the most frequent")


def table(profile: Profile) -> str:
    """One or two lines per column, and what the figures are worth."""
    rows = [_TITLES, *(row for one in profile.columns for row in _rows(one))]
    widths = [min(24, max(len(row[n]) for row in rows)) for n in range(len(_TITLES) - 1)]
    lines = []
    for row in rows:
        cells = [_cut(cell, width) for cell, width in zip(row[:-1], widths, strict=True)]
        cells = [c.ljust(w) if n < 2 else c.rjust(w) for n, (c, w) in enumerate(zip(cells, widths, strict=True))]
        lines.append(_cut("  ".join([*cells, row[-1]]).rstrip(), WIDTH))
    return "\n".join([*lines, *_notes(profile)])


def _notes(profile: Profile) -> list[str]:
    notes = []
    if any(one.distinct_error is not None for one in profile.columns):
        notes.append(f"~ estimated, within {ERROR:.1%} in 95 of 100 cases")
    if any(0 < one.num_sampled < one.num_rows - one.num_nulls for one in profile.columns):
        notes.append(f"quantiles are those of about {SAMPLE:,} rows, chosen by a hash of their numbers")
    return ["; ".join(notes)] if notes else []


def _rows(one: ColumnProfile) -> list[tuple[str, ...]]:
    nulls = f"{one.num_nulls / max(1, one.num_rows):.2%}" if one.num_nulls else "-"
    cells = [cell for cell in (_numbers(one), _top(one)) if cell] or [""]
    head = (one.name, _type(one.type), nulls, _distinct(one))
    return [(*head, cells[0]), *((*("",) * len(head), cell) for cell in cells[1:])]


def _distinct(one: ColumnProfile) -> str:
    if one.num_distinct is None:
        return "?"
    return f"{one.num_distinct:,}" if one.distinct_error is None else f"~{float(f'{one.num_distinct:.3g}'):,.0f}"


def _numbers(one: ColumnProfile) -> str:
    """The range, but not of few plain values, which are listed instead."""
    strange = f"; {one.num_not_finite:,} not finite" if one.num_not_finite else ""
    if one.low is None or (one.values is not None and not is_list(one.type) and not isinstance(one.low, datetime)):
        return strange[2:]
    of = " elements" if is_list(one.type) else ""
    if isinstance(one.low, datetime) or is_list(one.type):
        middle = one.quantiles.get(50, one.low)
        return f"{_value(one.low)} .. {_value(middle)} .. {_value(one.high)}{of}{strange}"
    middle = " | ".join(_value(value) for value in one.quantiles.values())
    return f"{_value(one.low)} .. {middle} .. {_value(one.high)}{strange}"


def _top(one: ColumnProfile) -> str:
    total = max(1, one.num_rows - one.num_nulls)
    if not one.top or (one.low is not None and one.values is None and one.top[0][1] < _WORTH * total):
        return ""
    if isinstance(one.low, datetime):
        return ""
    about = "" if one.distinct_error is None else "~"
    shown = ", ".join(f"{_cut(_value(value), 20)} {about}{count / total:.1%}" for value, count in one.top)
    return shown + (", ..." if one.num_distinct is not None and one.num_distinct > len(one.top) else "")


def _value(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if text.isprintable() and text else repr(text)


def _type(kind: pa.DataType) -> str:
    if is_list(kind):
        return f"list of {_type(kind.value_type)}"
    return _type(kind.value_type) if pt.is_dictionary(kind) else str(kind)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"

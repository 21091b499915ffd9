"""Numbers as a reader wants them: moments, bytes, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime


def moment(microseconds: int) -> str:
    """UTC microseconds since 1970 as a date and time.

    >>> moment(1767225600000000)
    '2026-01-01 00:00:00'
    """
    return datetime.fromtimestamp(microseconds / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def size(num_bytes: float) -> str:
    """
    >>> [size(n) for n in (950, 124_839, 2_500_000)]
    ['950 B', '124.8 kB', '2.5 MB']
    """
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def ends(value: Sequence[float | None]) -> str:
    """The interval of [value, low, high]; nothing where there is none.

    >>> ends([0.5, 0.25, 0.75]), ends([None, None, None])
    ('0.2500 to 0.7500', '')
    """
    return "" if value[1] is None or value[2] is None else f"{value[1]:.4f} to {value[2]:.4f}"


def number(value: float | None, *, signed: bool = False) -> str:
    """Four decimals; "none" where there is no value.

    >>> number(0.5, signed=True), number(None)
    ('+0.5000', 'none')
    """
    return "none" if value is None else f"{value:{'+' if signed else ''}.4f}"

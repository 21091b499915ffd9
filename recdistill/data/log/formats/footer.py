"""What a file says of itself before its rows are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

Types = Mapping[str, pa.DataType]


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """row_groups: rows of each group that can be read by itself, in order."""

    schema: pa.Schema
    row_groups: tuple[int, ...]


def filtered(
    table: pa.Table, columns: Sequence[str], where: pc.Expression | None, constants: Mapping[str, str]
) -> pa.Table:
    """The columns of the rows where the expression holds; the constants stand beside the table's own columns."""
    if where is not None:
        for name, value in constants.items():
            table = table.append_column(name, pa.repeat(pa.scalar(value), len(table)))
        table = table.filter(where)
    return table.select(list(columns))

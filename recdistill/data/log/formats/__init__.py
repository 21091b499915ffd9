"""How one file of a log is read: its schema and groups of rows, a scan in bounded memory, some groups at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from recdistill.data.log.formats import arrow, csv, parquet
from recdistill.data.log.formats.footer import Footer, Types

__all__ = ["FORMATS", "Footer", "Format", "Types"]


class Format(Protocol):
    """A format is a module of this shape. TITLE: as in "a Parquet file". OSError and ArrowException for a bad file."""

    TITLE: str

    def footer(
        self, filesystem: fs.FileSystem, path: str, types: Types | None, columns: Sequence[str] | None
    ) -> Footer:
        """The file's columns and groups of rows. types: what a file without types of its own must hold, in `columns`
        or, where that is None, in all."""

    def scan(
        self, filesystem: fs.FileSystem, path: str, columns: Sequence[str], types: Types, rows: int, compact: bool
    ) -> Iterator[pa.Table]:
        """All rows in order, up to `rows` at a time. compact: strings may come dictionary-encoded."""

    def read(
        self,
        filesystem: fs.FileSystem,
        path: str,
        groups: range,
        columns: Sequence[str],
        types: Types,
        where: pc.Expression | None,
        constants: Mapping[str, str],
    ) -> pa.Table:
        """The rows of some groups where `where` holds; it may name columns that are not read, and the constants."""


FORMATS: dict[str, Format] = {"parquet": parquet, "arrow": arrow, "csv": csv}

"""The rows that broke a rule, as a Parquet file beside the run, and what the user has to mend."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.data.contract.outside import is_list, is_text
from recdistill.data.contract.rules import Broken
from recdistill.data.log.listing import LogFile
from recdistill.problems import BadInput, problem

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("row_group", pa.int32()),
        ("row", pa.int64()),
        ("column", pa.string()),
        ("wanted", pa.string()),
        ("found", pa.string()),
        ("remedy", pa.string()),
    ]
)
LONGEST = 200  # characters of a value that are kept
_HELD = 65_536  # lines written at once

Places = NDArray[np.int64]


@dataclass(slots=True)
class _Tally:
    where: str
    found: str
    remedy: str
    num_rows: int


class Quarantine:
    """A file of bad rows, a line per row and broken rule, which appears at `path` whole, or not at all.

    file: the name within the log. row_group, row: of the file, from 0. found: the value as text. limit: share of all
    rows that may be bad. The file is written even where no row is, as evidence of that.
    """

    def __init__(self, path: Path, limit: float) -> None:
        self.path, self.limit = path, limit
        self._beside = path.with_name(f".unfinished-{path.name}-{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._beside, SCHEMA, write_page_checksum=True)
        self._held: list[pa.Table] = []
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._rows: dict[str, list[Places]] = {}

    def add(self, file: LogFile, first_row: int, table: pa.Table, broken: Sequence[Broken]) -> NDArray[np.bool_]:
        """[n] which rows of the table stay; the others are written. first_row: that of the table within its file."""
        return self.add_rows(file, np.arange(first_row, first_row + table.num_rows), table, broken)

    def add_rows(self, file: LogFile, rows: Places, table: pa.Table, broken: Sequence[Broken]) -> NDArray[np.bool_]:
        """As `add`, for rows that do not follow one another. rows: [n] their numbers within the file."""
        keep = np.ones(table.num_rows, dtype=bool)
        ends = np.cumsum(file.row_groups)
        for rule in broken:
            keep[rule.rows] = False
            at = rows[rule.rows]
            values = table.column(rule.column).take(pa.array(rule.rows))
            lines = {
                "file": pa.repeat(file.name, len(at)),
                "row_group": pa.array(np.searchsorted(ends, at, side="right").astype(np.int32)),
                "row": pa.array(at),
                "column": pa.repeat(rule.column, len(at)),
                "wanted": pa.repeat(rule.wanted, len(at)),
                "found": pa.array(texts(values), pa.string()),
                "remedy": pa.repeat(rule.remedy, len(at)),
            }
            self._append(pa.table(lines, SCHEMA), str(file.path))
        return keep

    def merge(self, path: Path, file: LogFile | None = None) -> None:
        """Take over the lines of another quarantine, which is left as it is. file: the one that all are of."""
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            for batch in parquet.iter_batches(_HELD):
                self._append(pa.Table.from_batches([batch]), None if file is None else str(file.path))

    def finish(self, num_rows: int) -> int:
        """Let the file appear; returns the number of bad rows. num_rows: good and bad ones of the whole.

        BadInput, with a line per column and rule, where more than `limit` of them are bad; the file stays then too.
        """
        self._flush()
        self._writer.close()
        with self._beside.open("rb") as written:
            os.fsync(written.fileno())
        self._beside.replace(self.path)
        bad = sum(len(np.unique(np.concatenate(rows))) for rows in self._rows.values())
        if bad and bad / num_rows > self.limit:
            raise BadInput([self._line(*rule, tally) for rule, tally in self._tallies.items()])
        return bad

    def _append(self, lines: pa.Table, path: str | None) -> None:
        self._count(lines, path)
        self._held.append(lines)
        if sum(held.num_rows for held in self._held) >= _HELD:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held))
        self._held = []

    def _count(self, lines: pa.Table, path: str | None) -> None:
        """Numbers of the rows, and the first line and count of every rule."""
        numbered = lines.select(["column", "wanted"]).append_column("place", pa.array(np.arange(lines.num_rows)))
        by_rule = numbered.group_by(["column", "wanted"], use_threads=False).aggregate(
            [("place", "min"), ("place", "count")]
        )
        for group in by_rule.sort_by("place_min").to_pylist():
            line = lines.slice(group["place_min"], 1).to_pylist()[0]
            where = f"{path or line['file']}: row group {line['row_group']}: row {line['row']}"
            tally = _Tally(where=where, found=line["found"], remedy=line["remedy"], num_rows=0)
            self._tallies.setdefault((group["column"], group["wanted"]), tally).num_rows += group["place_count"]
        for name in pc.unique(lines.column("file")).to_pylist():
            rows = lines.filter(pc.equal(lines.column("file"), name)).column("row").to_numpy()
            self._rows.setdefault(name, []).append(np.unique(rows))

    def _line(self, column: str, wanted: str, tally: _Tally) -> str:
        found = tally.found if tally.found.isprintable() and tally.found else repr(tally.found)
        remedy = f"{tally.remedy}, or raise data.contract.max_quarantined; all are in {self.path}"
        where = f"{tally.where}: column {column}"
        many = "1 row" if tally.num_rows == 1 else f"{tally.num_rows:,} rows so"
        return problem(where, wanted=wanted, found=f"{found} ({many})", remedy=remedy)


def texts(values: pa.ChunkedArray | pa.Array) -> list[str]:
    """Values as text, at most LONGEST characters each; of a long string or list, only its begin is looked at."""
    if pt.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if is_list(values.type):
        values = pc.list_slice(values, 0, LONGEST)
    elif is_text(values.type):
        values = pc.utf8_slice_codeunits(values, 0, LONGEST + 1)
    shown = (_text(value) for value in values)
    return [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in shown]


def _text(value: pa.Scalar) -> str:
    """An instant that no calendar names is shown as its number."""
    try:
        return str(value.as_py()) if value.is_valid else "null"
    except (OverflowError, ValueError):
        return str(value.value)

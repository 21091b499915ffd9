"""The files of a generated log: parts of at most a million rows, and folders that only a generated log gives way to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recdistill.files import manifest, read_json
from recdistill.problems import BadInput, problem

MADE_BY = {"made_by": "recdistill synth"}
TRUTH = "_truth.json"  # the underscore hides it from readers of the log
MAX_DICTIONARY = 20_000  # of more values than this, a dictionary per chunk costs time and saves no space
_ROWS_PER_FILE = 1_000_000


def refuse_others(folder: Path) -> None:
    """BadInput where the folder is there and is no generated log."""
    if folder.exists() and (manifest(folder) or {}).get("made_by") != MADE_BY["made_by"]:
        remedy = "give a folder that does not exist"
        raise BadInput(
            problem(str(folder), wanted="no folder, or a generated log", found="something else", remedy=remedy)
        )


def read_truth(folder: Path) -> dict[str, Any]:
    """What `_truth.json` of a generated log says. BadInput where there is none."""
    path = folder / TRUTH
    if not path.is_file():
        remedy = "make the log with `recdistill synth`"
        raise BadInput(problem(str(path), wanted="the truth of a generated log", found="no such file", remedy=remedy))
    found: dict[str, Any] = read_json(path)
    return found


def write_parts(folder: Path, tables: Iterator[pa.Table], dictionary: Sequence[str]) -> int:
    """Write tables as part-0000.parquet and on, a row group each; returns the rows. dictionary: columns that repeat."""
    folder.mkdir(exist_ok=True)
    total = part = room = 0
    writer: pq.ParquetWriter | None = None
    try:
        for table in tables:
            if writer is None or table.num_rows > room:
                if writer is not None:
                    writer.close()
                writer = _writer(folder / f"part-{part:04d}.parquet", table.schema, dictionary)
                part, room = part + 1, _ROWS_PER_FILE
            writer.write_table(table)
            total, room = total + table.num_rows, room - table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return total


def _writer(path: Path, schema: pa.Schema, dictionary: Sequence[str]) -> pq.ParquetWriter:
    """Without Arrow's own schema in the file its dictionaries are read back as plain strings.

    Statistics of the time only: those of strings would take more time than all the rest.
    """
    options = {"store_schema": False, "use_dictionary": list(dictionary) or False, "write_statistics": ["timestamp"]}
    return pq.ParquetWriter(path, schema, write_page_checksum=True, **options)

"""Batch scoring: Parquet in, Parquet out with a score beside every row, a record batch at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recdistill.bundle import open_bundle
from recdistill.problems import BadInput, problem

SCORE = "score"
_BATCH = 16_384  # rows: the ids, the vectors and the layers of so many fit the caches
_GROUP = 8  # batches of a row group


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How many rows were scored, and how fast, reading and writing included."""

    rows: int
    rows_per_s: float


def score_file(bundle: Path, source: Path, out: Path) -> Done:
    """Write all rows and columns of a Parquet file, or a folder of them, and `score`: logits, float32.

    The file appears at `out` only once it is whole. Memory does not grow with the rows. BadInput for a source that
    cannot be read, lacks a column of the request or has one named score, and for a model that answers with no number.
    """
    began = time.perf_counter()
    opened = open_bundle(bundle)
    rows = _source(source)
    schema = rows.schema
    lines = [
        problem(str(source), wanted=f"column {name}", found="none", remedy="write it into the file, null if unknown")
        for name in opened.encoder.needed
        if name not in schema.names
    ]
    if SCORE in schema.names:
        lines.append(problem(str(source), wanted="no column score", found="one", remedy="rename it"))
    if lines:
        raise BadInput(lines)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".unfinished-{out.name}")
    scored, num_rows = schema.append(pa.field(SCORE, pa.float32())), 0
    try:
        with pq.ParquetWriter(temporary, scored, write_page_checksum=True) as file:
            held: list[pa.RecordBatch] = []
            for batch in rows.to_batches(batch_size=_BATCH, batch_readahead=2, fragment_readahead=1, use_threads=False):
                scores = opened.score(pa.Table.from_batches([batch.select(opened.encoder.needed)]))
                if not np.isfinite(scores).all():
                    remedy = "do not use this model"
                    where = f"{source}: rows {num_rows} to {num_rows + len(batch)}"
                    raise BadInput(problem(where, wanted="a number for every row", found="NaN", remedy=remedy))
                held.append(batch.append_column(SCORE, pa.array(scores)))
                num_rows += len(batch)
                if len(held) == _GROUP:
                    file.write_table(pa.Table.from_batches(held))
                    held.clear()
            if held:
                file.write_table(pa.Table.from_batches(held))
        temporary.replace(out)
    except (OSError, pa.ArrowException) as error:
        found = str(error).splitlines()[0][:200]
        remedy = "mend the file or the disk and run it again"
        raise BadInput(problem(str(source), wanted="readable Parquet", found=found, remedy=remedy)) from None
    finally:
        temporary.unlink(missing_ok=True)
    return Done(rows=num_rows, rows_per_s=num_rows / (time.perf_counter() - began))


def _source(source: Path) -> ds.Dataset:
    checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    format_ = ds.ParquetFileFormat(default_fragment_scan_options=checked)
    try:
        found = ds.dataset(source, format=format_)
    except (OSError, pa.ArrowException) as error:
        found_here = str(error).splitlines()[0][:200]
        raise BadInput(
            problem(str(source), wanted="a Parquet file", found=found_here, remedy="give one that is there")
        ) from None
    return found

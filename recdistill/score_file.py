"""Batch scoring: Parquet in, Parquet out with a score beside every row, a record batch at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recdistill.problems import BadInput, problem
from recdistill.serve.scorer import NotFinite, Scorer

SCORE = "score"
_GROUP = 131_072  # rows of a record batch and of a row group


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
    scorer = Scorer(bundle)
    files = _files(source)
    schema = _schema(files)
    _check(scorer, source, schema)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".unfinished-{out.name}")
    num_rows = 0
    try:
        how = {"write_page_checksum": True, **_encodings(files[0])}
        with pq.ParquetWriter(temporary, schema.append(_FIELD), **how) as file:
            for batch in _batches(files, schema):
                scores = _scores(scorer, batch, f"{source}: row {num_rows}")
                file.write_batch(batch.append_column(_FIELD, pa.array(scores, pa.float32())))
                num_rows += len(batch)
        temporary.replace(out)
    except (OSError, pa.ArrowException) as error:
        remedy = "mend the file or the disk and run it again"
        raise BadInput(problem(str(source), wanted="readable Parquet", found=_first(error), remedy=remedy)) from None
    finally:
        temporary.unlink(missing_ok=True)
    return Done(rows=num_rows, rows_per_s=num_rows / (time.perf_counter() - began))


_FIELD = pa.field(SCORE, pa.float32())


def _scores(scorer: Scorer, batch: pa.RecordBatch, where: str) -> NDArray[np.float32]:
    try:
        return scorer.rows(batch.select(scorer.encoder.needed))
    except NotFinite as error:
        remedy = "do not use this model"
        raise BadInput(problem(f"{where} and after", wanted="a number each", found=str(error), remedy=remedy)) from None


def _check(scorer: Scorer, source: Path, schema: pa.Schema) -> None:
    lines = [
        problem(str(source), wanted=f"column {name}", found="none", remedy="write it into the file, null if unknown")
        for name in scorer.encoder.needed
        if name not in schema.names
    ]
    if SCORE in schema.names:
        lines.append(problem(str(source), wanted="no column score", found="one", remedy="rename it"))
    if lines:
        raise BadInput(lines)


def _files(source: Path) -> list[Path]:
    """The file, or those of a folder in the order of their names. BadInput where there is none."""
    found = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
    found = [path for path in found if not path.name.startswith((".", "_"))]
    if not found or not found[0].is_file():
        remedy = "give one that is there"
        raise BadInput(problem(str(source), wanted="a Parquet file", found="none", remedy=remedy))
    return found


def _schema(files: list[Path]) -> pa.Schema:
    """What all files hold. BadInput for each that is no Parquet, or holds other columns than the first."""
    schemas, lines = [], []
    for path in files:
        try:
            schemas.append((path, pq.read_schema(path)))
        except (OSError, pa.ArrowException) as error:
            remedy = "give a whole one"
            lines.append(problem(str(path), wanted="a Parquet file", found=_first(error), remedy=remedy))
    for path, schema in schemas[1:]:
        if not schema.equals(schemas[0][1]):
            wanted, remedy = f"the columns and types of {schemas[0][0].name}", "score it by itself"
            lines.append(problem(str(path), wanted=wanted, found="others", remedy=remedy))
    if lines:
        raise BadInput(lines)
    return schemas[0][1]


def _batches(files: list[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for path in files:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_GROUP, use_threads=False):
                yield batch.cast(schema)


def _encodings(path: Path) -> dict[str, Any]:
    """How columns are written: whole numbers that lie close together as differences, all others by a dictionary.

    Differences take a third of the time of a dictionary of many values. The scores hardly repeat, and are left plain.
    """
    with pq.ParquetFile(path) as file:
        places, groups = range(len(file.schema)), file.metadata.num_row_groups
        leaves = [file.schema.column(place).path for place in places]
        close = [groups > 0 and _close(file.metadata.row_group(0).column(place).statistics) for place in places]
    return {
        "use_dictionary": [leaf for leaf, packed in zip(leaves, close, strict=True) if not packed],
        "column_encoding": {leaf: "DELTA_BINARY_PACKED" for leaf, packed in zip(leaves, close, strict=True) if packed},
    }


def _close(statistics: Any) -> bool:
    """Whether values are whole numbers, and less than 32 bits apart."""
    known = statistics is not None and statistics.has_min_max and type(statistics.min) is int
    return known and statistics.max - statistics.min < 1 << 32


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]

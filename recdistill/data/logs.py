"""Parquet logs: which files a run reads (fixed once, with their sha256), and their rows as record batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.files import digest, file_digest
from recdistill.problems import BadInput, problem

ROWS_PER_BATCH = 65_536
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One Parquet file. name: relative to the log's source. first_row: its first row's number in the whole log."""

    path: Path
    name: str
    size: int
    sha256: str
    num_rows: int
    first_row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a run reads, fixed at its start: files that appear later are not seen."""

    source: str
    files: tuple[LogFile, ...]
    types: dict[str, pa.DataType]

    @property
    def num_rows(self) -> int:
        return sum(file.num_rows for file in self.files)

    @property
    def fingerprint(self) -> str:
        """sha256 over names, sizes and contents of the files: the identity of the data everywhere."""
        return digest([[file.name, file.size, file.sha256] for file in self.files])


def open_log(source: str) -> Log:
    """List and hash a log's files and compare their schemas. BadInput for what is no log, or one of two minds."""
    root = Path(source)
    paths = [root] if root.is_file() else sorted(p for p in root.rglob("*.parquet") if not _hidden(p, root))
    if not paths:
        found = "an empty one" if root.is_dir() else "nothing there"
        remedy = "mend data.source, or make a log with `recdistill synth`"
        raise BadInput(problem(f"data.source {source}", wanted="a folder of Parquet files", found=found, remedy=remedy))
    files: list[LogFile] = []
    schemas: list[pa.Schema] = []
    problems: list[str] = []
    for path in paths:
        try:
            with pq.ParquetFile(path) as parquet:
                schemas.append(parquet.schema_arrow)
                num_rows = parquet.metadata.num_rows
        except (OSError, pa.ArrowException) as error:
            remedy = "restore the file or take it out of the log"
            problems.append(problem(str(path), wanted="a Parquet file", found=_first_line(error), remedy=remedy))
            continue
        first_row = files[-1].first_row + files[-1].num_rows if files else 0
        name = path.relative_to(root).as_posix() if path != root else path.name
        files.append(
            LogFile(
                path=path,
                name=name,
                size=path.stat().st_size,
                sha256=file_digest(path),
                num_rows=num_rows,
                first_row=first_row,
            )
        )
    if problems:
        raise BadInput(problems)
    types = {field.name: field.type for field in schemas[0]}
    for file, schema in zip(files, schemas, strict=True):
        problems += _differences(file, schema, files[0], types)
    if problems:
        raise BadInput(problems)
    return Log(source=source, files=tuple(files), types=types)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.relative_to(root).parts)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _differences(file: LogFile, schema: pa.Schema, first: LogFile, types: dict[str, pa.DataType]) -> list[str]:
    remedy = "write all files of a log with one schema"
    lines = []
    for name, wanted in types.items():
        index = schema.get_field_index(name)
        found = str(schema.field(index).type) if index >= 0 else "no such column"
        if found != str(wanted):
            where = f"{file.path}: column {name}"
            lines.append(problem(where, wanted=f"{wanted} as in {first.name}", found=found, remedy=remedy))
    extra = [name for name in schema.names if name not in types]
    where = f"{file.path}: columns"
    return lines + [problem(where, wanted=f"those of {first.name}", found=f"also {n}", remedy=remedy) for n in extra]


def batches(log: Log, columns: Sequence[str]) -> Iterator[tuple[LogFile, int, pa.RecordBatch]]:
    """(file, number of the first row in the file, record batch) over the whole log, in order, in bounded memory.

    Page checksums are verified where the writer left them.
    """
    for file in log.files:
        try:
            with _open(file.path) as parquet:
                first = 0
                for batch in parquet.iter_batches(ROWS_PER_BATCH, columns=list(columns)):
                    yield file, first, batch
                    first += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            remedy = "restore the file or take it out of the log"
            raise BadInput(
                problem(str(file.path), wanted="readable rows", found=_first_line(error), remedy=remedy)
            ) from None


def _open(path: Path) -> pq.ParquetFile:
    """Buffered page by page: pyarrow would else hold all the columns of a file at once."""
    return pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=_READ_BYTES)


def family(kind: pa.DataType) -> str:
    """What a column can serve as: id, ids (a list of them), number, time or something else.

    >>> family(pa.int32()), family(pa.list_(pa.string())), family(pa.float64()), family(pa.date32())
    ('id', 'ids', 'number', 'time')
    """
    if pt.is_dictionary(kind):
        return family(kind.value_type)
    if pt.is_list(kind) or pt.is_large_list(kind):
        return "ids" if family(kind.value_type) == "id" else "something else"
    if pt.is_integer(kind) or pt.is_string(kind) or pt.is_large_string(kind) or pt.is_boolean(kind):
        return "id"
    if pt.is_floating(kind) or pt.is_decimal(kind):
        return "number"
    return "time" if pt.is_timestamp(kind) or pt.is_date(kind) else "something else"


def plain_ids(values: pa.Array) -> pa.Array:
    """Ids of any type as int64 or, for strings and fractions, as string, so that equal ids compare equal everywhere."""
    if pt.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pt.is_uint64(values.type):
        return values.view(pa.int64())  # hashes above the signed range keep their identity
    kind = values.type
    text = pt.is_string(kind) or pt.is_large_string(kind) or pt.is_floating(kind) or pt.is_decimal(kind)
    return values.cast(pa.string() if text else pa.int64())


def stable_key(values: pa.Array) -> NDArray[np.int64]:
    """A 64-bit key per id, the same on every machine and in every run; ids have no nulls."""
    plain = plain_ids(values)
    if pt.is_int64(plain.type):
        return pd.util.hash_array(plain.to_numpy(zero_copy_only=False)).view(np.int64)
    encoded = plain.dictionary_encode()
    keys = pd.util.hash_array(np.asarray(encoded.dictionary.to_pylist(), dtype=object)).view(np.int64)
    return keys[encoded.indices.to_numpy(zero_copy_only=False)]


def microseconds(values: pa.Array, unit: str | None) -> NDArray[np.int64]:
    """UTC microseconds since 1970 of a timestamp, a date, or whole numbers of a stated unit."""
    if unit is not None and not pt.is_timestamp(values.type):
        values = values.cast(pa.int64()).cast(pa.timestamp(unit))
    return pc.cast(values, pa.timestamp("us"), safe=False).cast(pa.int64()).to_numpy(zero_copy_only=False)

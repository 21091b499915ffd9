"""CSV files with a header: types are inferred once and then demanded of every file, value by value.

An empty field is a null, and nothing else is: NA may be a country.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.types as pt
from pyarrow import fs

from recdistill.data.log.formats.footer import Footer, Types, filtered

TITLE = "a CSV file"
_BLOCK_BYTES = 1 << 20
_LINE = re.compile(r"Row #(\d+): ?")
_COLUMN = re.compile(r"In CSV column #(\d+): ?")


def footer(filesystem: fs.FileSystem, path: str, types: Types | None, columns: Sequence[str] | None) -> Footer:
    """One group of all rows, counted by reading them. types: None infers them from the first block,
    whose rows are then the only ones counted."""
    with _located(filesystem, path), _open(filesystem, path, {}, []) as reader:
        header, some = reader.schema, sum(batch.num_rows for batch in islice(reader, 1))
    if len(set(header.names)) < len(header):
        raise pa.ArrowInvalid("a column name that stands twice in the header")
    if types is None:
        return Footer(schema=pa.schema([(field.name, _kind(field.type)) for field in header]), row_groups=(some,))
    wanted = [name for name in header.names if name in types and (columns is None or name in columns)]
    num_rows = sum(
        len(table)
        for table in scan(filesystem, path, wanted or header.names[:1], {n: types[n] for n in wanted}, 1 << 20, False)
    )
    schema = pa.schema([(name, types.get(name, pa.string())) for name in header.names])
    return Footer(schema=schema, row_groups=(num_rows,))


def _kind(inferred: pa.DataType) -> pa.DataType:
    """Fractions of a second and values may come after the first block; what is no UTF-8 is then refused."""
    if pt.is_null(inferred) or pt.is_binary(inferred):
        return pa.string()
    return pa.timestamp("us", inferred.tz) if pt.is_timestamp(inferred) else inferred


def _open(filesystem: fs.FileSystem, path: str, types: Types, columns: Sequence[str]) -> pacsv.CSVStreamingReader:
    """One thread: only then does pyarrow know the line of a bad value."""
    return pacsv.open_csv(
        filesystem.open_input_stream(path, compression="gzip" if path.lower().endswith(".gz") else None),
        read_options=pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        parse_options=pacsv.ParseOptions(
            delimiter="\t" if path.lower().endswith(".tsv") else ",", newlines_in_values=True
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict(types), include_columns=list(columns), null_values=[""], strings_can_be_null=True
        ),
    )


def scan(
    filesystem: fs.FileSystem, path: str, columns: Sequence[str], types: Types, rows: int, compact: bool
) -> Iterator[pa.Table]:
    demanded = {name: types[name] for name in columns if name in types}
    with _located(filesystem, path), _open(filesystem, path, demanded, columns) as reader:
        for batch in reader:
            table = pa.Table.from_batches([batch])
            for first in range(0, len(table), rows):
                yield table.slice(first, rows)


@contextmanager
def _located(filesystem: fs.FileSystem, path: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(_readable(str(error), filesystem, path)) from None


def _readable(message: str, filesystem: fs.FileSystem, path: str) -> str:
    """pyarrow's message with the row (from 0, as everywhere) for its line and the name for its column."""
    line, column = _LINE.search(message), _COLUMN.search(message)
    text = _COLUMN.sub("", _LINE.sub("", message))
    names = _header(filesystem, path) if column else []
    place = f"column {names[int(column[1])]}: " if column and int(column[1]) < len(names) else ""
    return (f"row {int(line[1]) - 2}: " if line else "") + place + text


def _header(filesystem: fs.FileSystem, path: str) -> list[str]:
    with _open(filesystem, path, {}, []) as reader:
        return list(reader.schema.names)


def read(
    filesystem: fs.FileSystem,
    path: str,
    groups: range,
    columns: Sequence[str],
    types: Types,
    where: pc.Expression | None,
    constants: Mapping[str, str],
) -> pa.Table:
    own = [name for name in types if name not in constants] if where is not None else list(columns)
    tables = list(scan(filesystem, path, own, types, _BLOCK_BYTES, False)) if groups else []
    table = pa.concat_tables(tables) if tables else pa.schema([(name, types[name]) for name in own]).empty_table()
    return filtered(table, columns, where, constants)

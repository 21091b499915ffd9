"""Arrow IPC files (Feather v2): every record batch is validated before it is used, for nothing else checks one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs, ipc

from recdistill.data.log.formats.footer import Footer, Types, filtered

TITLE = "an Arrow file"


def footer(filesystem: fs.FileSystem, path: str, types: Types | None, columns: Sequence[str] | None) -> Footer:
    with filesystem.open_input_file(path) as file:
        schema = ipc.open_file(file).schema
        file.seek(0)
        smallest = min(range(len(schema)), key=lambda n: _width(schema.field(n).type), default=None)
        options = ipc.IpcReadOptions(included_fields=[] if smallest is None else [smallest])
        reader = ipc.open_file(file, options=options)
        return Footer(schema=schema, row_groups=tuple(batch.num_rows for batch in _batches(reader)))


def _width(kind: pa.DataType) -> int:
    try:
        return kind.bit_width
    except ValueError:
        return 1 << 16


def _batches(reader: ipc.RecordBatchFileReader, groups: range | None = None) -> Iterator[pa.RecordBatch]:
    for number in range(reader.num_record_batches) if groups is None else groups:
        batch = reader.get_batch(number)
        batch.validate(full=True)
        yield batch


def _open(file: pa.NativeFile, columns: Sequence[str]) -> ipc.RecordBatchFileReader:
    schema = ipc.open_file(file).schema
    file.seek(0)
    places = sorted(schema.get_field_index(name) for name in columns)
    return ipc.open_file(file, options=ipc.IpcReadOptions(included_fields=places))


def scan(
    filesystem: fs.FileSystem, path: str, columns: Sequence[str], types: Types, rows: int, compact: bool
) -> Iterator[pa.Table]:
    with filesystem.open_input_file(path) as file:
        for batch in _batches(_open(file, columns)):
            table = pa.Table.from_batches([batch]).select(list(columns))
            for first in range(0, len(table), rows):
                yield table.slice(first, rows)


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
    with filesystem.open_input_file(path) as file:
        reader = _open(file, own)
        table = pa.Table.from_batches(list(_batches(reader, groups)), schema=reader.schema)
    return filtered(table, columns, where, constants)

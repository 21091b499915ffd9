"""Parquet files: page checksums are verified wherever the writer left them.

Values are validated too (UTF-8, places in dictionaries): without checksums nothing else would see a damaged one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pyarrow.types as pt
from pyarrow import fs

from recdistill.data.log.formats.footer import Footer, Types, filtered

TITLE = "a Parquet file"
MAX_GROUP_BYTES = 8 << 30
_READ_BYTES = 1 << 20
_COMPACT_BYTES = 4  # a value: below it, a chunk of strings is dictionary-encoded in the file too


def footer(filesystem: fs.FileSystem, path: str, types: Types | None, columns: Sequence[str] | None) -> Footer:
    limit = f"over {MAX_GROUP_BYTES >> 30} GiB"
    with filesystem.open_input_file(path) as file, pq.ParquetFile(file) as parquet:
        groups = [parquet.metadata.row_group(n) for n in range(parquet.num_row_groups)]
        for n, group in enumerate(groups):
            if group.total_byte_size > MAX_GROUP_BYTES:
                raise pa.ArrowInvalid(f"row group {n} of {group.total_byte_size / 2**30:.1f} GiB, {limit}")
        rows = tuple(group.num_rows for group in groups)
        if sum(rows) != parquet.metadata.num_rows:
            raise pa.ArrowInvalid(f"row groups of {sum(rows)} rows, but {parquet.metadata.num_rows} in its footer")
        return Footer(schema=parquet.schema_arrow, row_groups=rows)


def scan(
    filesystem: fs.FileSystem, path: str, columns: Sequence[str], types: Types, rows: int, compact: bool
) -> Iterator[pa.Table]:
    """Buffered page by page: pyarrow would else hold all the columns of a file at once."""
    with filesystem.open_input_file(path) as file:
        names = _compact(pq.read_metadata(file), columns, types) if compact else []
        file.seek(0)
        options = {"page_checksum_verification": True, "pre_buffer": False, "buffer_size": _READ_BYTES}
        with pq.ParquetFile(file, read_dictionary=names, **options) as parquet:
            yield from _together(
                parquet.iter_batches(rows, columns=list(columns), use_threads=pa.cpu_count() > 1), rows
            )


def _together(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Up to `rows` rows at a time: row groups with dictionaries of their own come one by one."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        batch.validate(full=True)
        if held and sum(len(one) for one in held) + len(batch) > rows:
            yield pa.Table.from_batches(held).combine_chunks()
            held = []
        held.append(batch)
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _compact(metadata: pq.FileMetaData, columns: Sequence[str], types: Types) -> list[str]:
    """The string columns that are stored as dictionaries, which are then read without spelling them out."""
    strings = {name for name in columns if pt.is_string(types[name]) or pt.is_large_string(types[name])}
    names = [metadata.schema.column(n).path for n in range(metadata.num_columns)]
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    found = []
    for place, name in enumerate(names):
        chunks = [group.column(place) for group in groups] if name in strings else []
        size, values = sum(c.total_uncompressed_size for c in chunks), sum(c.num_values for c in chunks)
        if chunks and all(c.has_dictionary_page for c in chunks) and size < _COMPACT_BYTES * values:
            found.append(name)
    return found


def read(
    filesystem: fs.FileSystem,
    path: str,
    groups: range,
    columns: Sequence[str],
    types: Types,
    where: pc.Expression | None,
    constants: Mapping[str, str],
) -> pa.Table:
    """Row groups whose statistics exclude `where` are not read."""
    left = list(groups) if where is None else _left(filesystem, path, groups, types, where, constants)
    own = [name for name in types if name not in constants]
    names = [name for name in own if name in columns or (where is not None and name in str(where))]
    options = {"page_checksum_verification": True, "pre_buffer": False}
    with filesystem.open_input_file(path) as file, pq.ParquetFile(file, **options) as parquet:
        table = parquet.read_row_groups(left, columns=names, use_threads=pa.cpu_count() > 1)
    table.validate(full=True)
    return filtered(table, columns, where, constants)


def _left(
    filesystem: fs.FileSystem,
    path: str,
    groups: range,
    types: Types,
    where: pc.Expression,
    constants: Mapping[str, str],
) -> list[int]:
    """The row groups that may hold rows where `where` holds, in order. A dataset is asked for no more than that: it
    takes its row groups as a set and so gives 5, 6, 7, 8 as 8, 5, 6, 7 (pyarrow 25.0.1)."""
    known = None
    for name, value in constants.items():
        equal = ds.field(name) == value
        known = equal if known is None else known & equal
    everything = ds.ParquetFileFormat().make_fragment(
        path, filesystem, partition_expression=known, row_groups=list(groups)
    )
    fragment = everything.subset(filter=where, schema=pa.schema(list(types.items())))
    return sorted(group.id for group in fragment.row_groups)

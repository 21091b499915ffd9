"""Logs: a log's rows in bounded memory, in order or divided among ranks, from exactly the files it was opened with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from recdistill.data.log.formats import FORMATS
from recdistill.data.log.listing import Log, LogFile
from recdistill.data.log.manifest import stamp_of
from recdistill.data.log.stores import REMEDY, first_line
from recdistill.problems import BadInput, problem

ROWS_PER_BATCH = 65_536


def batches(log: Log, columns: Sequence[str]) -> Iterator[tuple[LogFile, int, pa.RecordBatch]]:
    """(file, number of the first row in the file, record batch) over the whole log, in order, in bounded memory.

    The types are those of the log. BadInput where a file cannot be read or is no longer the one that was opened.
    """
    for file in log.files:
        for first, table in _scan(log, file, columns, ROWS_PER_BATCH, compact=False):
            for batch in table.to_batches():
                yield file, first, batch
                first += batch.num_rows


def tables(
    log: Log, columns: Sequence[str], *, max_rows: int, files: Sequence[LogFile] | None = None
) -> Iterator[tuple[LogFile, int, pa.Table]]:
    """(file, number of the first row in the file, up to max_rows consecutive rows of it), in order.

    Strings come dictionary-encoded where the file has them so: faster than to spell them out. BadInput as above.
    """
    for file in log.files if files is None else files:
        for first, table in _scan(log, file, columns, max_rows, compact=True):
            yield file, first, table


def shard(log: Log, rank: int, world: int) -> list[tuple[LogFile, int, int]]:
    """(file, first row group, number of them) of one rank of `world`: consecutive ones, about as many rows for each.

    Every row group is on exactly one rank: the one in whose share of the log its middle lies.
    """
    parts = []
    for file in log.files:
        row, mine = file.first_row, []
        for number, num_rows in enumerate(file.row_groups):
            if min(world - 1, (2 * row + num_rows) * world // max(1, 2 * log.num_rows)) == rank:
                mine.append(number)
            row += num_rows
        if mine:
            parts.append((file, mine[0], len(mine)))
    return parts


def read_groups(
    log: Log, file: LogFile, first: int, num: int, columns: Sequence[str], *, where: pc.Expression | None = None
) -> pa.Table:
    """The rows of `num` row groups from `first` on where `where` holds, which may name any column of the log.

    Parquet groups whose statistics exclude it are not read.
    """
    _known(log, columns)
    constants = {key: file.partition[key] for key in log.constants}
    read = FORMATS[log.format].read
    with _steady(log, file):
        groups = range(first, first + num)
        table = read(log.filesystem, file.path, groups, _own(log, columns), log.types, where, constants)
        if where is None and len(table) != sum(file.row_groups[first : first + num]):
            raise pa.ArrowInvalid(f"{len(table)} rows instead of {sum(file.row_groups[first : first + num])}")
    return _complete(table, log, file, columns, compact=False)


def _scan(log: Log, file: LogFile, columns: Sequence[str], rows: int, compact: bool) -> Iterator[tuple[int, pa.Table]]:
    _known(log, columns)
    scan, own = FORMATS[log.format].scan, _own(log, columns)
    with _steady(log, file):
        first = 0
        for table in scan(log.filesystem, file.path, own, log.types, rows, compact):
            if len(table):
                yield first, _complete(table, log, file, columns, compact)
            first += len(table)
        if first != file.num_rows:
            raise pa.ArrowInvalid(f"{first} rows instead of {file.num_rows}")


def _own(log: Log, columns: Sequence[str]) -> list[str]:
    """The columns that stand in the files: at least one, for the number of rows."""
    return [name for name in columns if name not in log.constants] or [n for n in log.types if n not in log.constants][
        :1
    ]


def _known(log: Log, columns: Sequence[str]) -> None:
    remedy = "mend the config or the log"
    found = f"only {', '.join(log.types)}"
    lines = [
        problem(f"{log.source}: column {name}", wanted="one that every file has alike", found=found, remedy=remedy)
        for name in columns
        if name not in log.types
    ]
    if lines:
        raise BadInput(lines)


def _complete(table: pa.Table, log: Log, file: LogFile, columns: Sequence[str], compact: bool) -> pa.Table:
    """The columns in their order, hive keys among them. ArrowInvalid where one is not of the log's type."""
    for name in log.constants.intersection(columns).difference(table.column_names):
        values = pa.repeat(pa.scalar(file.partition[name]), len(table))
        table = table.append_column(name, values.dictionary_encode() if compact else values)
    table = table.select(list(columns))
    for name, found in zip(columns, table.schema.types, strict=True):
        wanted = log.types[name]
        plain = found.value_type if pt.is_dictionary(found) and not pt.is_dictionary(wanted) else found
        large = plain is not found and pt.is_large_string(
            wanted
        )  # Arrow's reader knows dictionaries of short ones only
        if not plain.equals(pa.string() if large else wanted):
            raise pa.ArrowInvalid(f"column {name} of type {found} instead of {wanted}")
    return table


@contextmanager
def _steady(log: Log, file: LogFile) -> Iterator[None]:
    """One line for a file that cannot be read, or that is no longer the one that was hashed."""
    try:
        _check_stamp(log, file)
        yield
        _check_stamp(log, file)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        found = _change(log, file) or first_line(error)
        raise BadInput(problem(file.path, wanted="readable rows", found=found, remedy=REMEDY)) from None


def _check_stamp(log: Log, file: LogFile) -> None:
    found = _change(log, file)
    if found:
        raise OSError(found)


def _change(log: Log, file: LogFile) -> str | None:
    try:
        same = stamp_of(log.filesystem, file.path) == log.stamps[file.name]
    except (OSError, pa.ArrowException) as error:
        return first_line(error)
    return None if same else "a file that changed after the log was opened"

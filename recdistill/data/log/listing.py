"""What a run reads, fixed at its start: the files of its log with their sha256, sizes and groups of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
from pyarrow import fs

from recdistill.config.data import Data, Partition
from recdistill.data.log import manifest as manifests
from recdistill.data.log import schemas, sources
from recdistill.data.log.formats import FORMATS
from recdistill.files import digest
from recdistill.problems import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One file of a log.

    path: as its file system knows it. name: relative to the log's source, its identity. first_row: its first row's
    number in the whole log. row_groups: rows of each Parquet row group or Arrow record batch; one for a CSV file.
    partition: the hive keys of its name.
    """

    path: str
    name: str
    size: int
    sha256: str
    num_rows: int
    first_row: int
    row_groups: tuple[int, ...]
    partition: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a run reads, fixed at its start: files that appear later are not seen.

    types: of the columns that every file has, hive keys as strings included. extra: column -> files that have it
    while others do not; such columns are never read. constants: hive keys that serve as columns. stamps: size and
    time of change of each file, by name.
    """

    source: str
    format: str
    files: tuple[LogFile, ...]
    types: dict[str, pa.DataType]
    filesystem: fs.FileSystem
    extra: dict[str, list[str]]
    constants: frozenset[str]
    stamps: dict[str, manifests.Stamp] = field(repr=False)

    @property
    def num_rows(self) -> int:
        return sum(file.num_rows for file in self.files)

    @property
    def fingerprint(self) -> str:
        """sha256 over names, sizes, rows and contents of the files and their schema: the identity of the data."""
        files = [[file.name, file.size, file.num_rows, file.sha256] for file in self.files]
        return digest({"types": self._types(), "files": files})

    def to_json(self) -> dict[str, Any]:
        """What `recdistill manifest` writes."""
        names = ("name", "size", "sha256", "num_rows")
        return {
            "made_by": manifests.MADE_BY,
            "source": self.source,
            "format": self.format,
            "fingerprint": self.fingerprint,
            "num_rows": self.num_rows,
            "types": self._types(),
            "extra": self.extra,
            "files": [{name: getattr(file, name) for name in names} for file in self.files],
        }

    def _types(self) -> dict[str, str]:
        return {name: str(kind) for name, kind in sorted(self.types.items())}


def open_data(data: Data, columns: Sequence[str] | None = None) -> Log:
    """The log of a config. columns: those that the run reads; None takes all."""
    return open_log(
        data.source,
        format=data.format,
        partition=data.partition,
        start=data.start,
        end=data.end,
        manifest=data.manifest,
        columns=columns,
    )


def open_log(
    source: str,
    *,
    format: str | None = None,
    partition: Partition | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    manifest: str | None = None,
    columns: Sequence[str] | None = None,
) -> Log:
    """List and hash a log's files and compare their schemas. BadInput for what is no log, or one of two minds.

    partition, start, end: files whose partition lies outside are not opened. manifest: exactly its files are read,
    wherever they lie in time. columns: those that must be the same in every file; None takes the first file's.
    """
    place = sources.locate(source)
    if manifest is None:
        form, names = sources.listed(place, format)
        wanted = manifests.promised(place)
        problems = [] if wanted is None else manifests.unlike(place, names, wanted)
        if problems:
            raise BadInput(problems)
        if partition is not None:
            names = sources.within(place, names, partition, start, end)
    else:
        form, wanted = manifests.read_manifest(manifest)
        names = list(wanted)
    seen = _look(place, form, names, columns)
    problems = manifests.damaged(place, seen, wanted or {})
    if problems:
        raise BadInput(problems)
    return _log(place, form, seen, columns)


def _look(place: sources.Place, form: str, names: list[str], columns: Sequence[str] | None) -> list[manifests.Seen]:
    return manifests.look(place, form, names, _inferred(place, names) if form == "csv" else None, columns)


def _inferred(place: sources.Place, names: list[str]) -> dict[str, pa.DataType]:
    """The types of the first CSV file that has rows; a file that cannot be read is told later, with all others."""
    types: dict[str, pa.DataType] = {}
    for name in names:
        try:
            footer = FORMATS["csv"].footer(place.filesystem, place.path(name), None, None)
        except (OSError, pa.ArrowException):
            continue
        if sum(footer.row_groups):
            return {column.name: column.type for column in footer.schema}
        types = types or {column.name: column.type for column in footer.schema}
    return types


def _log(place: sources.Place, form: str, seen: list[manifests.Seen], columns: Sequence[str] | None) -> Log:
    keys = [sources.hive(one.name) for one in seen]
    everywhere = set(keys[0]).intersection(*keys)
    types, extra = schemas.agree(place, {one.name: one.footer.schema for one in seen}, columns, everywhere)
    constants = frozenset(everywhere - types.keys())
    return Log(
        source=place.source,
        format=form,
        files=_files(place, seen),
        types={key: pa.string() for key in sorted(constants)} | types,
        filesystem=place.filesystem,
        extra=extra,
        constants=constants,
        stamps={one.name: one.stamp for one in seen},
    )


def _files(place: sources.Place, seen: list[manifests.Seen]) -> tuple[LogFile, ...]:
    files, first_row = [], 0
    for one in seen:
        num_rows = sum(one.footer.row_groups)
        files.append(
            LogFile(
                path=place.path(one.name),
                name=one.name,
                size=one.stamp[0],
                sha256=one.sha256,
                num_rows=num_rows,
                first_row=first_row,
                row_groups=one.footer.row_groups,
                partition=sources.hive(one.name),
            )
        )
        first_row += num_rows
    return tuple(files)

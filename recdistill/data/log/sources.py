"""Where a log lies (a file, a folder or a glob, local or in an object store) and which of its files a run may open."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import unquote

from pyarrow import fs

from recdistill.config.data import Partition
from recdistill.config.sections import utc
from recdistill.data.log.partitions import span
from recdistill.data.log.stores import answering, filesystem_of, is_local, where_of
from recdistill.problems import BadInput, problem

SUFFIXES = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A source taken apart. base: the folder that names are relative to. pattern: the parts of a glob, of one file's
    name, or none for a folder. A source that is not there is a folder without files."""

    source: str
    filesystem: fs.FileSystem
    base: str
    pattern: tuple[str, ...] = ()
    kind: Literal["file", "folder", "glob", "nothing"] = "folder"

    def path(self, name: str) -> str:
        return f"{self.base.rstrip('/')}/{name}" if self.base else name


def locate(source: str) -> Place:
    """Take a source apart, with one look at whether it is a file. BadInput where its store cannot be asked."""
    filesystem, path = filesystem_of(source)
    with answering(source):
        kind = filesystem.get_file_info(path).type
    if kind == fs.FileType.File:
        base, _, name = path.rpartition("/")
        base = base or ("/" if path.startswith("/") else "." if is_local(filesystem) else "")
        return Place(source=source, filesystem=filesystem, base=base, pattern=(name,), kind="file")
    if kind == fs.FileType.NotFound and re.search(r"[*?\[]", path):
        parts = path.split("/")
        place = next(n for n, part in enumerate(parts) if re.search(r"[*?\[]", part))
        base = "/".join(parts[:place]) or ("/" if path.startswith("/") else "." if is_local(filesystem) else "")
        return Place(source=source, filesystem=filesystem, base=base, pattern=tuple(parts[place:]), kind="glob")
    return Place(
        source=source,
        filesystem=filesystem,
        base=path,
        kind="nothing" if kind == fs.FileType.NotFound else "folder",
    )


def listed(place: Place, chosen: str | None) -> tuple[str, list[str]]:
    """The log's format and the names of its files, sorted by their parts; hidden ones (`.`, `_`) are passed over.

    chosen: the format, where it is given; a file or a glob is then taken as that, whatever its name says.
    """
    names = [place.pattern[0]] if place.kind == "file" else _found(place)
    formats = {name: _format_of(name) for name in names}
    if chosen is not None and place.kind == "folder":
        names = [name for name in names if formats[name] == chosen]
    elif chosen is None and place.kind != "file":
        names = [name for name in names if formats[name]]
    kinds = {chosen or formats[name] for name in names}
    if not names:
        raise BadInput(_nothing(place, chosen))
    if len(kinds) > 1 or None in kinds:
        found = " and ".join(sorted(kind for kind in kinds if kind)) or f"{names[0]}, whose name tells none"
        wanted, remedy = "files of one format", "give data.format, or a glob"
        raise BadInput(problem(where_of(place.source), wanted=wanted, found=found, remedy=remedy))
    return kinds.pop() or "", names


def _nothing(place: Place, chosen: str | None) -> str:
    found = {"nothing": "nothing there", "glob": "no match"}.get(place.kind, "an empty one")
    kinds = {"parquet": "Parquet files", "arrow": "Arrow files", "csv": "CSV files"}
    wanted = f"a folder of {kinds[chosen] if chosen else 'Parquet files, or of Arrow or CSV files'}"
    remedy = "mend data.source, or make a log with `recdistill synth`"
    return problem(where_of(place.source), wanted=wanted, found=found, remedy=remedy)


def is_data(name: str) -> bool:
    """Whether a file of this name, relative to a log, holds rows of it."""
    return _format_of(name) is not None and not any(part.startswith((".", "_")) for part in name.split("/"))


def _format_of(name: str) -> str | None:
    return next((kind for suffix, kind in SUFFIXES.items() if name.lower().endswith(suffix)), None)


def _found(place: Place) -> list[str]:
    with answering(place.source):
        infos = place.filesystem.get_file_info(fs.FileSelector(place.base, recursive=True, allow_not_found=True))
    start = len(place.base.rstrip("/")) + 1
    names = [i.path[start:] for i in infos if i.type in (fs.FileType.File, fs.FileType.NotFound)]
    parts = sorted(name.split("/") for name in names)
    seen = [p for p in parts if not any(part.startswith((".", "_")) for part in p)]
    return ["/".join(p) for p in seen if not place.pattern or _matches(p, place.pattern)]


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a glob matches a file or a folder that it lies in; ** stands for any folders.

    >>> _matches(["day=01", "a.csv"], ["day=*"]), _matches(["a", "b", "c"], ["**", "c"]), _matches(["a"], ["b*"])
    (True, True, False)
    """
    if not pattern:
        return True
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def hive(name: str) -> dict[str, str]:
    """The hive keys of a name.

    >>> hive("day=2017-10-01/country=at%2Fde/part-0.parquet")
    {'day': '2017-10-01', 'country': 'at/de'}
    """
    pairs = [part.split("=", 1) for part in name.split("/")[:-1] if "=" in part]
    return {unquote(key): unquote(value) for key, value in pairs}


def within(
    place: Place, names: Sequence[str], partition: Partition, start: datetime | None, end: datetime | None
) -> list[str]:
    """The names whose partition can hold events of [start, end): from its begin less the lateness up to its end.

    BadInput with a line for every path whose value does not parse, and where no partition is left.
    """
    kept, problems = [], []
    start, end = utc(start), utc(end)
    for name in names:
        keys = hive(name)
        held = span(partition, keys)
        if held is None:
            found = repr(keys[partition.column]) if partition.column in keys else "no such key in the path"
            wanted, remedy = f"{partition.column}={partition.format} in the path", "mend data.partition or the path"
            problems.append(problem(place.path(name), wanted=wanted, found=found, remedy=remedy))
        elif (start is None or held[1] > start) and (end is None or held[0] - partition.lateness < end):
            kept.append(name)
    if problems:
        raise BadInput(problems)
    if not kept:
        found, remedy = f"{len(names)} files of others", "mend data.start, data.end or data.partition"
        wanted = f"a partition between {start or 'the first'} and {end or 'the last'}"
        raise BadInput(problem(where_of(place.source), wanted=wanted, found=found, remedy=remedy))
    return kept

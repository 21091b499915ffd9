"""Where a log lies (a file, a folder or a glob, local or in an object store) and which of its files a run may open."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from recdistill.config_data import Partition
from recdistill.problems import BadInput, problem
from recdistill.sections import utc

SUFFIXES = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
}
_CONNECT_S, _STALL_S, _ATTEMPTS = 5, 10, 3  # a request is given up when no byte comes for so long
_DENIED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|HTTP status 40[13]|denied", re.IGNORECASE
)
REMEDY = "restore the file or take it out of the log"


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
    filesystem, path = _filesystem(source)
    with answering(source):
        kind = filesystem.get_file_info(path).type
    if kind == fs.FileType.File:
        base, _, name = path.rpartition("/")
        base = base or ("/" if path.startswith("/") else "." if _is_local(filesystem) else "")
        return Place(source=source, filesystem=filesystem, base=base, pattern=(name,), kind="file")
    if kind == fs.FileType.NotFound and re.search(r"[*?\[]", path):
        parts = path.split("/")
        place = next(n for n, part in enumerate(parts) if re.search(r"[*?\[]", part))
        base = "/".join(parts[:place]) or ("/" if path.startswith("/") else "." if _is_local(filesystem) else "")
        return Place(source=source, filesystem=filesystem, base=base, pattern=tuple(parts[place:]), kind="glob")
    return Place(
        source=source,
        filesystem=filesystem,
        base=path,
        kind="nothing" if kind == fs.FileType.NotFound else "folder",
    )


def _is_local(filesystem: fs.FileSystem) -> bool:
    return isinstance(filesystem, fs.LocalFileSystem)


def _filesystem(source: str) -> tuple[fs.FileSystem, str]:
    scheme, mark, rest = source.partition("://")
    if not mark:
        return fs.LocalFileSystem(), source.rstrip("/") or "/"
    if scheme not in ("s3", "gs") or not rest.strip("/"):
        found = f"{scheme}://" if rest.strip("/") else "no bucket"
        remedy = "write s3://bucket/prefix or gs://bucket/prefix"
        raise BadInput(
            problem(_where(source), wanted="a path, or an s3:// or gs:// address", found=found, remedy=remedy)
        )
    with answering(source):
        return (_s3() if scheme == "s3" else _gcs()), rest.rstrip("/")


def _s3() -> fs.FileSystem:
    """Credentials and region from AWS_* or the usual files; finite time-outs. A loopback or other http endpoint is
    given with its scheme."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    settings = {}
    if endpoint:
        url = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        settings = {"endpoint_override": url.netloc + url.path.rstrip("/"), "scheme": url.scheme}
    return fs.S3FileSystem(
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        connect_timeout=_CONNECT_S,
        request_timeout=_STALL_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        **settings,
    )


def _gcs() -> fs.FileSystem:
    """Application default credentials; an emulator where STORAGE_EMULATOR_HOST names one."""
    limit = timedelta(seconds=_STALL_S)
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if not emulator:
        return fs.GcsFileSystem(retry_time_limit=limit)
    url = urlsplit(emulator if "://" in emulator else f"http://{emulator}")
    return fs.GcsFileSystem(anonymous=True, scheme=url.scheme, endpoint_override=url.netloc, retry_time_limit=limit)


def _where(source: str) -> str:
    return f"data.source {source}"


@contextmanager
def answering(source: str) -> Iterator[None]:
    """One line where the store of `source` cannot be reached or denies."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        found = first_line(error)
        remedy = _remedy(source.partition("://")[0], isinstance(error, PermissionError) or bool(_DENIED.search(found)))
        raise BadInput(problem(_where(source), wanted="a place that can be read", found=found, remedy=remedy)) from None


def _remedy(scheme: str, denied: bool) -> str:
    if scheme == "s3":
        return (
            "mend the AWS_* credentials or the rights" if denied else "check the address, AWS_ENDPOINT_URL, the network"
        )
    if scheme == "gs":
        return "mend the application default credentials or the rights" if denied else "check the address, the network"
    return "check the path and its rights"


def first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


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
        raise BadInput(problem(_where(place.source), wanted=wanted, found=found, remedy=remedy))
    return kinds.pop() or "", names


def _nothing(place: Place, chosen: str | None) -> str:
    found = {"nothing": "nothing there", "glob": "no match"}.get(place.kind, "an empty one")
    kinds = {"parquet": "Parquet", "arrow": "Arrow", "csv": "CSV", None: "Parquet, Arrow or CSV"}[chosen]
    remedy = "mend data.source, or make a log with `recdistill synth`"
    return problem(_where(place.source), wanted=f"a folder of {kinds} files", found=found, remedy=remedy)


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
        value = hive(name).get(partition.column)
        begin = None if value is None else _instant(value, partition.format)
        if begin is None:
            found = "no such key in the path" if value is None else repr(value)
            wanted, remedy = f"{partition.column}={partition.format} in the path", "mend data.partition or the path"
            problems.append(problem(place.path(name), wanted=wanted, found=found, remedy=remedy))
        elif (start is None or _after(begin, partition.length) > start) and (
            end is None or begin - partition.lateness < end
        ):
            kept.append(name)
    if problems:
        raise BadInput(problems)
    if not kept:
        found, remedy = f"{len(names)} files of others", "mend data.start, data.end or data.partition"
        wanted = f"a partition between {start or 'the first'} and {end or 'the last'}"
        raise BadInput(problem(_where(place.source), wanted=wanted, found=found, remedy=remedy))
    return kept


def _instant(value: str, form: str) -> datetime | None:
    try:
        return utc(datetime.strptime(value, form))
    except ValueError:
        return None


def _after(begin: datetime, length: str) -> datetime:
    """Where the partition that begins there ends.

    >>> _after(datetime(2017, 12, 1, tzinfo=UTC), "month")
    datetime.datetime(2018, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    if length == "month":
        return begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
    return begin + timedelta(**{f"{length}s": 1})

"""What a log's files held when they were listed: sha256 and footer of each, and what those are held against."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from recdistill.data.log.formats import FORMATS, Footer, Types
from recdistill.data.log.sources import Place, is_data
from recdistill.data.log.stores import REMEDY, answering, first_line
from recdistill.files import MANIFEST
from recdistill.problems import BadInput, problem

MADE_BY = "recdistill manifest"
_CHUNK_BYTES = 1 << 20
_MAX_THREADS = 8

Stamp = tuple[int, int]  # size in bytes, time of the last change in ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A file as it was when it was hashed."""

    name: str
    stamp: Stamp
    sha256: str
    footer: Footer


def stamp_of(filesystem: fs.FileSystem, path: str) -> Stamp:
    """What changes with a file's content. FileNotFoundError where it is gone."""
    info = filesystem.get_file_info(path)
    if info.type != fs.FileType.File:
        raise FileNotFoundError("no such file any more")
    return info.size, info.mtime_ns


def sha256_of(filesystem: fs.FileSystem, path: str) -> str:
    """sha256 (hex) of a file's bytes, read once from front to back."""
    value = hashlib.sha256()
    with filesystem.open_input_stream(path, compression=None) as file:
        while chunk := file.read(_CHUNK_BYTES):
            value.update(chunk)
    return value.hexdigest()


def look(
    place: Place, form: str, names: Iterable[str], types: Types | None, columns: Sequence[str] | None
) -> list[Seen]:
    """Hash the files and read their footers, in threads. BadInput with a line for every file that is none.

    types, columns: what CSV files must hold, and in which columns that is looked at.
    """

    def one(name: str) -> Seen | str:
        try:
            return _look(place, form, name, types, columns)
        except (OSError, pa.ArrowException, ValueError) as error:
            wanted = FORMATS[form].TITLE
            return problem(place.path(name), wanted=wanted, found=first_line(error), remedy=REMEDY)

    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        found = list(pool.map(one, names))
    problems = [line for line in found if isinstance(line, str)]
    if problems:
        raise BadInput(problems)
    return [seen for seen in found if isinstance(seen, Seen)]


def _look(place: Place, form: str, name: str, types: Types | None, columns: Sequence[str] | None) -> Seen:
    path = place.path(name)
    stamp = stamp_of(place.filesystem, path)
    footer = FORMATS[form].footer(place.filesystem, path, types, columns)
    names = footer.schema.names
    if len(set(names)) < len(names):
        raise pa.ArrowInvalid("a column name that stands twice")
    sha256 = sha256_of(place.filesystem, path)
    if stamp_of(place.filesystem, path) != stamp:
        raise OSError("one that changes while it is read")
    return Seen(name=name, stamp=stamp, sha256=sha256, footer=footer)


def promised(place: Place) -> dict[str, str] | None:
    """Name -> sha256 as the folder's own manifest has it; None where it holds none of ours."""
    path = place.path(MANIFEST)
    with answering(place.source):
        if place.kind == "nothing" or place.filesystem.get_file_info(path).type != fs.FileType.File:
            return None
        text = place.filesystem.open_input_stream(path, compression=None).read()
    return _listed(path, text) if b'"sha256"' in text else None


def read_manifest(path: str) -> tuple[str, dict[str, str]]:
    """Format, and name -> sha256 in order, of a manifest that `recdistill manifest` wrote."""
    where = f"data.manifest {path}"
    remedy = f"write it again with `{MADE_BY}`"
    try:
        text = Path(path).read_bytes()
        about = json.loads(text)
    except (OSError, ValueError) as error:
        raise BadInput(problem(where, wanted="a manifest", found=first_line(error), remedy=remedy)) from None
    if not isinstance(about, dict) or about.get("made_by") != MADE_BY or about.get("format") not in FORMATS:
        raise BadInput(problem(where, wanted=f"a manifest of `{MADE_BY}`", found="something else", remedy=remedy))
    return about["format"], _listed(path, text)


def _listed(path: str, text: bytes) -> dict[str, str]:
    """The files of a manifest, ours or a folder's."""
    try:
        files: Any = json.loads(text)["files"]
        pairs = files.items() if isinstance(files, dict) else [(file["name"], file) for file in files]
        return {name: str(file["sha256"]) for name, file in pairs}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "restore it, or remove it if the log is as it should be"
        raise BadInput(problem(path, wanted="a manifest", found=first_line(error), remedy=remedy)) from None


def unlike(place: Place, names: Iterable[str], wanted: Mapping[str, str]) -> list[str]:
    """A line for every name that a folder's manifest has and the folder has not, or the other way round."""
    found = set(names)
    lines = []
    if place.kind == "folder":
        lines = [
            problem(place.path(name), wanted=f"the file that {MANIFEST} lists", found="no such file", remedy=REMEDY)
            for name in wanted
            if name not in found and is_data(name)
        ]
    remedy = f"take it out of the log, or write {MANIFEST} again"
    return lines + [
        problem(place.path(name), wanted=f"a file that {MANIFEST} lists", found="one that it does not", remedy=remedy)
        for name in sorted(found - wanted.keys())
    ]


def damaged(place: Place, seen: Iterable[Seen], wanted: Mapping[str, str]) -> list[str]:
    """A line for every file whose bytes are not those that were promised."""
    return [
        problem(
            place.path(one.name),
            wanted=f"sha256 {wanted[one.name][:12]} as in the manifest",
            found=one.sha256[:12],
            remedy="restore the file",
        )
        for one in seen
        if one.name in wanted and one.sha256 != wanted[one.name]
    ]

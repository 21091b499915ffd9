"""The files of a log as its publisher ships it, in a folder, a zip, a tar or alone: read as streams, never unpacked."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from recdistill.problems import BadInput, problem

UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError)
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file. path: on disk, itself or the archive that holds it. inside: its name there; None for itself."""

    path: Path
    inside: str | None = None

    @property
    def where(self) -> str:
        """As it is called in messages: logs/ml-1m.zip: ml-1m/ratings.dat."""
        return str(self.path) if self.inside is None else f"{self.path}: {self.inside}"

    @property
    def name(self) -> str:
        """The last part of its name, without .gz: train.txt."""
        return PurePosixPath(self.inside or self.path.name).name.removesuffix(".gz")

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Its bytes, with gzip taken off. BadInput for what breaks off or fails its checksum."""
        try:
            with self._stored() as stored:
                yield _plain(stored)
        except UNREADABLE as error:
            remedy = "fetch the file again: it is damaged, or no archive of its kind"
            found = str(error) or type(error).__name__
            raise BadInput(
                problem(self.where, wanted="readable bytes to the end", found=found, remedy=remedy)
            ) from None

    @contextmanager
    def _stored(self) -> Iterator[BinaryIO]:
        if self.inside is None:
            with self.path.open("rb") as file:
                yield file
        elif zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as archive, archive.open(self.inside) as stream:
                yield cast(BinaryIO, stream)
        else:
            with tarfile.open(self.path, "r|*") as tar:
                content = tar.extractfile(next(entry for entry in tar if entry.name == self.inside))
                assert content is not None
                yield cast(BinaryIO, content)


def _plain(stored: BinaryIO) -> BinaryIO:
    buffered = io.BufferedReader(cast(io.RawIOBase, stored), 1 << 20)
    return cast(BinaryIO, gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == _GZIP else buffered)


def members(path: Path) -> list[Member]:
    """The files at a path, in order of their names: itself, what a folder holds, and what archives hold.

    BadInput where there is nothing, or where an archive names files outside itself.
    """
    if not path.exists():
        remedy = "give the file or folder that was downloaded"
        raise BadInput(problem(str(path), wanted="a file or a folder", found="nothing there", remedy=remedy))
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [member for file in files if not file.name.startswith(".") for member in _members_of(file)]


def _members_of(file: Path) -> list[Member]:
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        elif tarfile.is_tarfile(file):
            with tarfile.open(file, "r|*") as archive:
                names = [entry.name for entry in archive if entry.isfile()]
        else:
            return [Member(path=file)]
    except UNREADABLE as error:
        remedy = "fetch the archive again: it is damaged"
        found = str(error) or type(error).__name__
        raise BadInput(problem(str(file), wanted="a readable archive", found=found, remedy=remedy)) from None
    outside = [name for name in names if _leaves(name)]
    if outside:
        remedy = "do not trust this archive; fetch it from its publisher"
        wanted = "names of files inside the archive"
        raise BadInput([problem(str(file), wanted=wanted, found=repr(name), remedy=remedy) for name in outside])
    return [Member(path=file, inside=name) for name in names if not name.startswith("__MACOSX/")]


def _leaves(name: str) -> bool:
    """Whether a name is absolute or climbs out of its folder, on any system.

    >>> [_leaves(n) for n in ("ml-1m/ratings.dat", "/etc/passwd", "a/../../b", "C:\\\\x", "a..b")]
    [False, True, True, True, False]
    """
    parts = re.split(r"[/\\]", name)
    return parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name) is not None


def matching(found: Sequence[Member], pattern: str) -> list[Member]:
    """The members whose name (without folders and .gz) is wholly of a pattern."""
    return [member for member in found if re.fullmatch(pattern, member.name)]


def only(path: Path, found: Sequence[Member], patterns: Mapping[str, str]) -> list[Member]:
    """One member per pattern, in their order; the keys are how messages call them.

    BadInput with a line for each that is absent or stands twice.
    """
    problems, chosen = [], []
    for name, pattern in patterns.items():
        fitting = matching(found, pattern)
        if len(fitting) == 1:
            chosen += fitting
            continue
        wanted = f"one file {name}"
        if fitting:
            them, remedy = " and ".join(member.where for member in fitting), "give the folder or archive of one log"
            problems.append(problem(str(path), wanted=wanted, found=them, remedy=remedy))
        else:
            problems.append(missing(path, found, wanted))
    if problems:
        raise BadInput(problems)
    return chosen


def missing(path: Path, found: Sequence[Member], wanted: str) -> str:
    """The line for files that are not there."""
    names = sorted({member.name for member in found})
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    remedy = "give the archive as published, or the folder it was unpacked to"
    return problem(str(path), wanted=wanted, found=listed or "no files", remedy=remedy)

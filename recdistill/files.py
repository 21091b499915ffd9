"""Files that are either whole or absent: write-then-rename folders, manifests of content hashes, locks, digests."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recdistill.problems import BadInput

MANIFEST = "_manifest.json"  # the underscore hides it from readers of a Parquet folder
_TEMPORARY = ".unfinished-"


def digest(value: Any) -> str:
    """sha256 (hex) of a JSON-able value, whatever the order of its keys.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    temporary = path.with_name(f"{_TEMPORARY}{path.name}-{os.getpid()}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> {size, sha256} of every file under `folder`, but for the manifest itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": file_digest(path)}
        for path in files
    }


@contextmanager
def whole_folder(final: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """A folder to fill, which appears at `final` only once complete and with a manifest; `about` is kept in it.

    A process that dies on the way leaves a `.unfinished-*` folder, which `sweep` removes.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(final)
    temporary.mkdir()
    try:
        yield temporary
        write_json(temporary / MANIFEST, {**about, "files": contents(temporary)})
        for path in temporary.rglob("*"):
            _sync(path)
        _sync(temporary)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        _sync(final.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def unfinished(final: Path) -> Path:
    """The name beside `final` of what is not whole, which `sweep` removes once this process is dead."""
    return final.with_name(f"{_TEMPORARY}{final.name}-{os.getpid()}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete folder; None where the folder is absent or was never finished."""
    path = folder / MANIFEST
    return read_json(path) if path.is_file() else None


def damage(folder: Path) -> list[str]:
    """What differs between a folder and its manifest, a line each; an empty list says that every byte is as written."""
    listed = manifest(folder)
    if listed is None:
        return [f"{folder}: no {MANIFEST}, so it was never finished"]
    found, wanted = contents(folder), listed["files"]
    lines = [f"{folder / name}: missing" for name in sorted(wanted.keys() - found.keys())]
    lines += [f"{folder / name}: not in the manifest" for name in sorted(found.keys() - wanted.keys())]
    both = sorted(wanted.keys() & found.keys())
    return lines + [f"{folder / name}: content differs from its sha256" for name in both if found[name] != wanted[name]]


def sweep(root: Path) -> None:
    """Remove what dead processes left unfinished under `root`. Call it only while holding the root's lock."""
    for path in root.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Hold the root's lock, which the system frees when its process dies, however it dies.

    BadInput where another process holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                f"{root}: wanted to be the only run there, found another one at work; "
                "wait for it or give this one another `root`"
            ) from None
        yield

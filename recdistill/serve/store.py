"""What a server remembers on disk: bundles by their digest, and which of them is served; read again after a crash."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from recdistill.bundle import bundle_digest
from recdistill.files import damage, write_json
from recdistill.problems import BadInput, problem

CURRENT = "current.json"
_KEPT = 4  # bundles that stay on disk: the champion, the one before, the challenger, and the one before that


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle on this machine. version: in the registry; empty for a folder."""

    folder: str
    digest: str
    version: str = ""


class Current(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be served, and what is to score along with it unseen."""

    champion: Pointer
    challenger: Pointer | None = None


_decoder = msgspec.json.Decoder(Current)


def read_current(state: Path) -> Current | None:
    """What was last said; None where nothing was, or what is there is no such file."""
    try:
        return _decoder.decode((state / CURRENT).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def write_current(state: Path, current: Current) -> None:
    """Say what is to be served from now on, whole or not at all."""
    state.mkdir(parents=True, exist_ok=True)
    write_json(state / CURRENT, msgspec.to_builtins(current))


def pointer(folder: Path, version: str = "") -> Pointer:
    """BadInput for a folder that is no whole bundle."""
    lines = damage(folder)
    if lines:
        remedy = "export or fetch it again"
        raise BadInput([problem(line, wanted="a whole bundle", found="another", remedy=remedy) for line in lines])
    return Pointer(folder=str(folder.resolve()), digest=bundle_digest(folder), version=version)


def keep(bundle: Path, state: Path, version: str, digest: str) -> Pointer:
    """Copy a fetched bundle under its digest. BadInput where it is not the one that the registry names."""
    found = pointer(bundle, version)
    if found.digest != digest:
        remedy = "find out who changed the artifact; do not serve it"
        wanted = f"the bundle {digest[:12]} of version {version}"
        raise BadInput(problem(str(bundle), wanted=wanted, found=found.digest[:12], remedy=remedy))
    final = state / "bundles" / digest
    if not final.is_dir() or damage(final):
        shutil.rmtree(final, ignore_errors=True)
        temporary = final.with_name(f".{digest}-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(bundle, temporary)
        temporary.rename(final)
    os.utime(final)
    _forget(state)
    return pointer(final, version)


def _forget(state: Path) -> None:
    folders = sorted((state / "bundles").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in folders[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)

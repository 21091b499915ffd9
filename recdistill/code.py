"""Which modules a module is made of, by its imports, and a digest of their sources: the code's part of a step's key."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent


@cache
def imports(path: Path) -> frozenset[Path]:
    """Files of this package that a file imports, anywhere in it."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {file for name in names if (file := _file(name)) is not None}
    return frozenset(found - {path})


def _file(module: str) -> Path | None:
    """The file of a module of this package; None for a package, a name inside a module or another project's module."""
    first, *rest = module.split(".")
    path = ROOT.joinpath(*rest).with_suffix(".py")
    return path if first == ROOT.name and rest and path.is_file() else None


def closure(*paths: Path) -> list[Path]:
    """The files and all that they import, directly or not, in a fixed order."""
    seen: set[Path] = set()
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += imports(path)
    return sorted(seen)


def code_digest(*paths: Path) -> str:
    """sha256 (hex) over the sources that these files are made of."""
    together = hashlib.sha256()
    for path in closure(*paths):
        together.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return together.hexdigest()

"""What the files of a log have in common, and where one is of another mind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from recdistill.data.log.sources import Place
from recdistill.problems import BadInput, problem

_EXTENSION = b"ARROW:extension:name"


def agree(
    place: Place, schemas: Mapping[str, pa.Schema], columns: Sequence[str] | None, constants: set[str]
) -> tuple[dict[str, pa.DataType], dict[str, list[str]]]:
    """Column -> type where every file has it so, and column -> files that have it where others do not.

    schemas: by name. columns: those that will be read, in which nothing may differ; None takes those of the first
    file. constants: columns that the paths give. BadInput with a line for every file and column that differs.
    """
    first = next(iter(schemas.values()))
    wanted = first.names if columns is None else [name for name in columns if name not in constants]
    places: dict[str, dict[str, pa.DataType]] = {}
    for path, schema in schemas.items():
        for field in schema:
            places.setdefault(field.name, {})[path] = field.type
    problems = [line for name, schema in schemas.items() for line in _unknown(place.path(name), schema)]
    for name in dict.fromkeys(wanted):
        if name not in places:
            found = f"only {', '.join(places)}"
            where, remedy = f"{place.source}: column {name}", "mend the config or the log"
            problems.append(problem(where, wanted="such a column", found=found, remedy=remedy))
        else:
            problems += _differences(place, name, places[name], schemas)
    if problems:
        raise BadInput(problems)
    everywhere = {name: kinds for name, kinds in places.items() if len(kinds) == len(schemas)}
    types = {name: next(iter(kinds.values())) for name, kinds in everywhere.items() if _one(kinds)}
    return types, {name: list(kinds) for name, kinds in places.items() if name not in everywhere}


def _one(kinds: Mapping[str, pa.DataType]) -> bool:
    values = iter(kinds.values())
    first = next(values)
    return all(kind.equals(first) for kind in values)


def _differences(
    place: Place, column: str, kinds: Mapping[str, pa.DataType], schemas: Mapping[str, pa.Schema]
) -> list[str]:
    """What most files have is what the others are held against."""
    text = Counter(str(kind) for kind in kinds.values()).most_common(1)[0][0]
    model, usual = next((name, kind) for name, kind in kinds.items() if str(kind) == text)
    lines = []
    for name in schemas:
        found = kinds.get(name)
        if found is None or not found.equals(usual):
            remedy = "write all files of a log with one schema"
            found_text = "no such column" if found is None else str(found)
            where = f"{place.path(name)}: column {column}"
            lines.append(problem(where, wanted=f"{usual} as in {model}", found=found_text, remedy=remedy))
    return lines


def _unknown(path: str, schema: pa.Schema) -> list[str]:
    """Types that nobody here registered: what their values mean is not known."""
    marked = [field for field in schema if _EXTENSION in (field.metadata or {})]
    return [
        problem(
            f"{path}: column {field.name}",
            wanted="a type of Arrow itself",
            found=f"the extension type {field.metadata[_EXTENSION].decode(errors='replace')}",
            remedy="write it as its storage type",
        )
        for field in marked
    ]

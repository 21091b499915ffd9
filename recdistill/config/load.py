"""YAML and overrides -> Run; every problem of a config at once, each in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from recdistill.config.run import Run
from recdistill.problems import BadInput, guess, problem


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, but a key that stands twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for (key_node, _), key in zip(node.value, keys, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
        return super().construct_mapping(node, deep)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Run:
    """The run that a YAML file and `section.field=value` overrides describe, an entry of a list by its place from 0.

    BadInput lists every problem.
    """
    file = Path(path)
    tree = _read(file)
    where = {}
    for override in sorted(overrides, key=lambda override: not override.startswith("recipe=")):
        if not override.startswith("recipe="):
            _read_recipe(file, tree)
        where[_set(tree, override)] = override
    _read_recipe(file, tree)
    try:
        return Run.model_validate(tree)
    except ValidationError as error:
        raise BadInput([_line(file, details, where) for details in error.errors()]) from None


def _read(file: Path) -> dict[str, Any]:
    remedy = "see configs/demo.yaml for one that works"
    try:
        tree = yaml.load(file.read_text(), Loader=_UniqueKeys)
    except OSError as error:
        raise BadInput(
            problem(str(file), wanted="a YAML file", found=error.strerror or "none", remedy=remedy)
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = " ".join(str(error).split())
        raise BadInput(problem(str(file), wanted="readable YAML", found=found, remedy=remedy)) from None
    if not isinstance(tree, dict):
        raise BadInput(problem(str(file), wanted="sections", found=type(tree).__name__, remedy=remedy))
    return tree


def _set(tree: dict[str, Any], override: str) -> str:
    name, equals, text = override.partition("=")
    if not equals or not all(name.split(".")):
        raise BadInput(
            problem(
                "command line",
                wanted="section.field=value",
                found=repr(override),
                remedy="as in teacher.epochs=2",
            )
        )
    *sections, field = name.split(".")
    place: Any = tree
    for number, section in enumerate(sections):
        if isinstance(place, list):
            below = place[_entry(override, place, section)]
        else:
            below = place.setdefault(section, _unsaid(sections[: number + 1]))
        if not isinstance(below, dict | list):
            path = ".".join(sections[: number + 1])
            where, remedy = f"command line {override!r}: {path}", f"give the whole of {path}"
            raise BadInput(problem(where, wanted="a section", found=repr(below)[:80], remedy=remedy))
        place = below
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    place[_entry(override, place, field) if isinstance(place, list) else field] = value
    return name


def _unsaid(path: Sequence[str]) -> Any:
    """What an override changes where the config says nothing: a default list, or a section that cannot be empty."""
    section: type[BaseModel] | None = Run
    default: Any = None
    for step in path:
        if step.isdigit():
            continue
        if section is None or step not in section.model_fields:
            return {}
        field = section.model_fields[step]
        default, section = field.get_default(call_default_factory=True), _section(field.annotation)
    if isinstance(default, list):
        return [_written(entry) for entry in default]
    needs = isinstance(default, BaseModel) and any(f.is_required() for f in type(default).model_fields.values())
    return _written(default) if needs else {}


def _written(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value


def _entry(override: str, entries: list[Any], step: str) -> int:
    """The place in a list that a step names, from 0."""
    if step.isdigit() and int(step) < len(entries):
        return int(step)
    wanted = f"a place in a list of {len(entries)}, from 0"
    where, remedy = f"command line {override!r}", "or give the whole list"
    raise BadInput(problem(where, wanted=wanted, found=repr(step), remedy=remedy))


def _read_recipe(file: Path, tree: dict[str, Any]) -> None:
    """Put a recipe's file where its name stands, so that its settings can be overridden."""
    if isinstance(tree.get("recipe"), str):
        tree["recipe"] = _recipe(file, tree["recipe"])


def _recipe(file: Path, name: str) -> Any:
    folder = file.parent / "recipes"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise BadInput(
            problem(
                f"{file}: recipe",
                wanted=f"one of {folder}: {', '.join(known) or 'none there'}",
                found=repr(name),
                remedy=guess(name, known) or "or write the recipe's terms here",
            )
        )
    return _read(folder / f"{name}.yaml")


def _line(file: Path, details: ErrorDetails, overrides: dict[str, str]) -> str:
    location = ".".join(map(str, details["loc"]))
    by = next((o for name, o in overrides.items() if f"{location}.".startswith(f"{name}.")), None)
    by = by or next((o for name, o in overrides.items() if location and name.startswith(f"{location}.")), None)
    source = str(file) if by is None else f"command line {by!r}"
    where = f"{source}: {location or 'the whole'}"
    match details["type"]:
        case "extra_forbidden":
            keys = _keys(details["loc"][:-1])
            key = str(details["loc"][-1])
            remedy = guess(key, keys) or f"known are {', '.join(keys)}"
            return problem(where, wanted="a known key", found=repr(key), remedy=remedy)
        case "missing":
            return problem(where, wanted="a value", found="none", remedy="write it")
    message = details["msg"]
    for start in ("Input should be ", "String should ", "Value error, "):
        message = message.removeprefix(start)
    if ": wanted" in message and not location:
        return f"{source}: {message}"
    if message.startswith("wanted") or ": wanted" in message:
        return f"{where}: {message}"
    return problem(where, wanted=message, found=repr(details["input"])[:80], remedy="give such a value")


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at a location may have."""
    section: Any = Run
    for step in location:
        if isinstance(step, str) and section is not None and step in section.model_fields:
            section = _section(section.model_fields[step].annotation)
    return list(section.model_fields) if section is not None else []


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part))), None)

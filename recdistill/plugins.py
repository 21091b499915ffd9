"""Plug-ins of the grammar and of the teacher, found by their file's path: list/clid.py is `list.clid` in YAML.

A plug-in file holds one public function with the file's own name, or one public class with that name in CamelCase. Its
keyword-only parameters, with their annotations and defaults, are what the YAML may set. `NEEDS`, a set of words, says
what it wants beyond logits.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import ConfigDict, create_model
from pydantic.fields import FieldInfo

Kind = Literal["objectives", "targets", "selection", "schedules", "history", "interaction", "heads"]
GRAMMAR: tuple[Kind, ...] = ("objectives", "targets", "selection", "schedules")
MODEL: tuple[Kind, ...] = ("history", "interaction", "heads")
KINDS = GRAMMAR + MODEL
KNOWN_NEEDS = frozenset(
    {
        "teacher",  # its scores
        "requests",  # whole requests in a batch; of an objective: its loss is one per request
        "batch",  # other rows of the batch, on which a row's value hangs
        "labels",  # of a target: it edits the teacher by the label; of a teacher's term: it learns the label too
        "hidden",  # the last hidden layers
        "members",  # the logits of an ensemble's members, as they were stored
        "blocks",  # the student's hidden layers
        "pooled",  # the student's pooled embeddings
        "live_teacher",  # the teacher itself
        "student",  # of a target or a selection: the student's scores of this step
        "progress",  # of a selection: how far the training is
        "rows",  # the train window's rows, to remember something of each
        "item_popularity",  # how often the train window holds an item
        "item_vectors",  # the teacher's table of the candidate
        "previous",  # logits of an earlier run's teacher and student
        "first_generation",  # logits of a student that was trained without a teacher
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """One file of a plug-in folder. make: its function or class. summary: the first line of its docstring."""

    kind: Kind
    name: str
    summary: str
    make: Callable[..., Any]
    needs: frozenset[str]
    path: Path

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The keyword-only parameters that a YAML may set."""
        found = inspect.signature(self.make).parameters.values()
        return {p.name: p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every parameter's value, given or default; pydantic's ValidationError lists all that does not fit."""
        body = self.make.__init__ if inspect.isclass(self.make) else self.make
        hints = get_type_hints(body, include_extras=True)
        fields: dict[str, Any] = {
            name: (hints[name], FieldInfo(default=... if p.default is inspect.Parameter.empty else p.default))
            for name, p in self.parameters.items()
        }
        schema = create_model(self.name, __config__=ConfigDict(extra="forbid", strict=False), **fields)
        return schema.model_validate(dict(given)).model_dump()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A plug-in with the settings that a config gives it."""

    plugin: Plugin
    settings: Mapping[str, Any]

    def __call__(self, *values: Any) -> Any:
        """What the plug-in makes of the values and its settings."""
        return self.plugin.make(*values, **self.settings)


def choose(kind: Kind, name: str, settings: Mapping[str, Any]) -> Choice:
    """A plug-in by name with checked settings. KeyError for an unknown name, ValidationError for wrong settings."""
    plugin = load(kind, name)
    return Choice(plugin=plugin, settings=plugin.settings(settings))


def find(kind: Kind) -> dict[str, Path]:
    """Name -> file of every plug-in of a kind, without importing one."""
    root = Path(__file__).parent / _home(kind) / kind
    files = sorted(path for path in root.rglob("*.py") if not path.name.startswith("_"))
    return {".".join(path.relative_to(root).with_suffix("").parts): path for path in files}


def load(kind: Kind, name: str) -> Plugin:
    """Import one plug-in. KeyError where its file is absent."""
    path = find(kind)[name]
    module = importlib.import_module(f"{__package__}.{_home(kind)}.{kind}.{name}")
    assert module.__doc__, f"{path} has no docstring"
    needs = frozenset(getattr(module, "NEEDS", ()))
    assert needs <= KNOWN_NEEDS, f"{path}: unknown needs {sorted(needs - KNOWN_NEEDS)}"
    return Plugin(
        kind=kind,
        name=name,
        summary=module.__doc__.strip().splitlines()[0],
        make=getattr(module, path.stem, None) or getattr(module, _camel(path.stem)),
        needs=needs,
        path=path,
    )


def _home(kind: Kind) -> str:
    return "models" if kind in MODEL else "distil"


def _camel(stem: str) -> str:
    return "".join(word.capitalize() for word in stem.split("_"))


def load_all(kind: Kind) -> dict[str, Plugin]:
    """Every plug-in of a kind, imported."""
    return {name: load(kind, name) for name in find(kind)}

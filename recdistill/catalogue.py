"""The catalogue: every recipe of a folder and every plug-in, with paper, settings and needs, as text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from recdistill.config.recipe import RecipeSection
from recdistill.config.unfit import runs_on
from recdistill.plugins import KINDS, Plugin, load_all
from recdistill.problems import BadInput, guess, problem

LINE = "{:26} {:12} {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A recipe's file. about: its comment lines after the command. text: all of it."""

    name: str
    about: str
    text: str
    section: RecipeSection

    @property
    def needs(self) -> list[str]:
        """What it asks of a run beyond the teacher's scores."""
        told = self.section.recipe().needs - {"teacher", "labels", "batch", "student", "progress", "rows"}
        own = {"privileged": self.section.privileged, "hidden": self.section.student.memory is not None}
        return sorted(told | {name for name, wanted in own.items() if wanted})


def entries(folder: Path) -> list[Entry]:
    """Every recipe of a folder, in order. BadInput with a line for each that is no recipe."""
    found, problems = [], []
    for path in sorted(folder.glob("*.yaml")):
        text = path.read_text()
        comments = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
        try:
            section = RecipeSection.model_validate(yaml.safe_load(text))
        except (yaml.YAMLError, ValidationError) as error:
            wanted, said = "a recipe", " ".join(str(error).split())
            problems.append(problem(str(path), wanted=wanted, found=said[:300], remedy="mend or remove it"))
            continue
        found.append(Entry(name=path.stem, about=" ".join(comments[1:]), text=text, section=section))
    if problems:
        raise BadInput(problems)
    return found


def overview(folder: Path) -> str:
    """A line a recipe, then a line a plug-in. A recipe runs on rows (a log of labels) or on pairs (data.pairs) too."""
    lines = [LINE.format("recipe", "teacher", "what, whose; the shapes that it runs on; what it needs beyond scores")]
    for entry in entries(folder):
        told = _listed("runs on", runs_on(entry.section)) + _listed("needs", entry.needs)
        lines.append(LINE.format(entry.name, entry.section.teacher, entry.about + told))
    lines += ["", LINE.format("plug-in", "kind", "what; its settings; what it needs")]
    for plugin in _plugins():
        more = _listed("takes", list(plugin.parameters)) + _listed("needs", sorted(plugin.needs))
        lines.append(LINE.format(plugin.name, plugin.kind, plugin.summary + more))
    return "\n".join(lines)


def _listed(word: str, names: Sequence[str]) -> str:
    return f" [{word} {', '.join(names)}]" if names else ""


def detail(folder: Path, name: str) -> str:
    """A recipe in full with a line for each of its plug-ins, or a plug-in in full. BadInput for an unknown name."""
    known = entries(folder)
    recipes = [entry for entry in known if entry.name == name]
    plugins = [plugin for plugin in _plugins() if plugin.name == name]
    parts = [_recipe(entry) for entry in recipes] + [_plugin(plugin) for plugin in plugins]
    if not parts:
        names = [*(entry.name for entry in known), *(plugin.name for plugin in _plugins())]
        remedy = guess(name, names) or "`recdistill recipes` lists them"
        raise BadInput(problem("recipes", wanted="a recipe's or a plug-in's name", found=repr(name), remedy=remedy))
    return "\n\n".join(parts)


def _plugins() -> Sequence[Plugin]:
    return [plugin for kind in KINDS for plugin in load_all(kind).values()]


def _recipe(entry: Entry) -> str:
    seen = {choice.plugin.name: choice for choice in entry.section.recipe().choices}
    lines = [f"  {name:24} {choice.plugin.summary}" for name, choice in seen.items()]
    needs = ", ".join(entry.needs) or "nothing beyond the teacher's scores"
    return "\n".join([entry.text, f"runs on: {', '.join(runs_on(entry.section))}", f"needs: {needs}", *lines])


def _plugin(plugin: Plugin) -> str:
    settings = [f"  {parameter.name}: {parameter.default}" for parameter in plugin.parameters.values()]
    needs = ", ".join(sorted(plugin.needs)) or "nothing"
    about = sys.modules[plugin.make.__module__].__doc__ or ""
    return "\n".join(
        [
            f"{plugin.kind}/{plugin.name}",
            about,
            f"needs: {needs}",
            "settings, as they are where none is given:",
            *(settings or ["  none"]),
        ]
    )

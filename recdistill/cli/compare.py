"""recdistill compare: every recipe and the controls on one log, as a table with intervals."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from recdistill.cli.options import Config, Overrides, Quiet, open_config

compare_commands = typer.Typer()

Recipes = Annotated[str, typer.Option(help="all, or names of configs/recipes/NAME.yaml with commas between")]
Seeds = Annotated[int, typer.Option(min=1, help="how many students of each")]
Processes = Annotated[int, typer.Option(min=1, help="trainings at a time; give each threads=1")]
Trials = Annotated[int, typer.Option(min=0, help="of every model's settings on the validation window; 0 tunes none")]
Bigger = Annotated[
    bool, typer.Option(help="with a control twice as wide, the dearest where students are no small ones")
]
Json = Annotated[Path | None, typer.Option("--json", help="write one JSON object per model here")]
Markdown = Annotated[Path | None, typer.Option(help="write the table here, and the plot beside it as .svg")]


@compare_commands.command()
def compare(
    config: Config,
    overrides: Overrides = None,
    recipes: Recipes = "all",
    seeds: Seeds = 3,
    processes: Processes = 1,
    trials: Trials = 0,
    bigger: Bigger = True,
    json_file: Json = None,
    markdown: Markdown = None,
    quiet: Quiet = False,
) -> None:
    """Every recipe and the controls under one budget: who recovers how much of the teacher's lead, and is it noise?

    Goes on where it was; what is trained already is not trained again. Last line: one JSON.
    """
    run = open_config(config, overrides, quiet)
    from recdistill.api import compare_recipes
    from recdistill.compare.table import as_markdown, as_text, plot
    from recdistill.files import read_json

    named = recipe_names(config, recipes)
    compare_recipes(config, named, *(overrides or []), seeds=seeds, processes=processes, trials=trials, bigger=bigger)
    found = read_json(Path(run.folder) / "compare" / "comparison.json")
    if json_file is not None:
        json_file.write_text("".join(json.dumps(model) + "\n" for model in found["models"]))
    if markdown is not None:
        picture = markdown.with_suffix(".svg")
        head = (
            f"# Recipes compared: {run.name}\n\n{page_command(config, overrides or [], recipes, seeds, trials, bigger)}"
        )
        shown = f"![{run.gates.metric} less the control's, by recipe]({picture.name})"
        markdown.write_text(f"{head}\n\n{as_markdown(found, run.gates.metric)}\n{shown}\n")
        plot(found, run.gates.metric, picture)
    if not quiet:
        print(as_text(found, run.gates.metric))
    print(json.dumps({model["name"]: model.get("recovery") for model in found["models"]}))


def page_command(
    config: Path, overrides: Sequence[str], recipes: str, seeds: int, trials: int, bigger: bool = True
) -> str:
    """What writes this page, as one can paste it."""
    tuned = (f" --trials {trials}" if trials else "") + ("" if bigger else " --no-bigger")
    given = "".join(f" {shlex.quote(override)}" for override in overrides)
    return f"`recdistill compare {config.as_posix()}{given} --recipes {recipes} --seeds {seeds}{tuned}`"


def recipe_names(config: Path, recipes: str) -> list[str]:
    """The recipes asked for. BadInput for one that there is none of, or none at all."""
    from recdistill.problems import BadInput, guess, problem

    known = sorted(path.stem for path in (config.parent / "recipes").glob("*.yaml"))
    names = known if recipes == "all" else [name.strip() for name in recipes.split(",") if name.strip()]
    wanted, otherwise = f"recipes of {config.parent / 'recipes'}", "`recdistill recipes` lists them"
    lines = [
        problem("--recipes", wanted=wanted, found=repr(name), remedy=guess(name, known) or otherwise)
        for name in names
        if name not in known
    ]
    if not names:
        lines = [problem("--recipes", wanted=wanted, found="none", remedy="name some, or write one")]
    if lines:
        raise BadInput(lines)
    return names

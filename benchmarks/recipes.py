"""What each recipe adds to the training of a student, as one JSON line: python benchmarks/recipes.py [CONFIG [RECIPES]]

Ratios of processor time of one epoch on one thread, the recipe's over a control's that was trained right before it;
medians of the repeats. Of configs/demo.yaml with score.hidden=float16, unless another config is named; RECIPES: names
with commas between, all where none are given. Each recipe is a line on standard error when it is done. All recipes of
the demo are written into docs/recipes.md, too.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from pathlib import Path

from recdistill.cli.compare import recipe_names
from recdistill.config.load import load
from recdistill.config.run import Run
from recdistill.pipeline import run_all
from recdistill.problems import BadInput
from recdistill.train.device import ready_process
from recdistill.train.students.student import Arm, fit_student

REPEATS = 3
DEMO = Path("configs/demo.yaml")
PAGE, BEGIN, END = (
    Path("docs/recipes.md"),
    "<!-- figures, written by `make bench-recipes` -->\n",
    "<!-- end of figures -->\n",
)
SETTINGS = ("score.hidden=float16", "student.epochs=1", "threads=1", "device=cpu")


def main() -> None:
    logging.disable(logging.INFO)
    config = Path(sys.argv[1] if len(sys.argv) > 1 else DEMO)
    names = recipe_names(config, sys.argv[2] if len(sys.argv) > 2 else "all")
    run = load(config, SETTINGS)
    folders = run_all(run, until="score").folders
    ready_process(1)

    def seconds(of: Run, arm: Arm) -> float:
        began = time.process_time()
        fit_student(of, folders, of.recipe, of.seed, arm=arm)
        return time.process_time() - began

    def ratio(of: Run) -> float:
        control = seconds(of, "control")
        return seconds(of, "student") / control

    found: dict[str, dict[str, float]] = {}
    refused: list[str] = []
    seconds(run, "student")  # what is read and built for the first time
    for name in names:
        try:
            taught = load(config, [*SETTINGS, f"recipe={name}"])
            ratios = [ratio(taught) for _ in range(REPEATS)]
        except BadInput:
            refused.append(name)
            continue
        found.setdefault(taught.recipe.teacher, {})[name] = round(statistics.median(ratios), 3)
        print(f"{name}: x{statistics.median(ratios):.3f}", file=sys.stderr)
    stored = found.get("stored", {})
    line = {
        "config": config.as_posix(),
        "repeats": REPEATS,
        "stored_median": statistics.median(stored.values()) if stored else None,
        "stored_at_most_1.1": sum(ratio <= 1.1 for ratio in stored.values()),
        "stored_recipes": len(stored),
        "refused_here": refused,
        **found,
    }
    if config == DEMO and len(sys.argv) < 3:
        document(found)
    print(json.dumps(line))


def document(found: dict[str, dict[str, float]]) -> None:
    """Put the ratios into the page, the cheapest first."""
    lines = ["| teacher | recipes, times the control's training |", "|---|---|"]
    for teacher, ratios in found.items():
        ordered = sorted(ratios.items(), key=lambda one: one[1])
        lines.append(f"| {teacher} | {', '.join(f'`{name}` {ratio:.2f}' for name, ratio in ordered)} |")
    before, after = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n".join([*lines, ""]) + END + after.split(END)[1])


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        print("\n".join(error.problems), file=sys.stderr)
        sys.exit(2)

"""What the pages of docs/leaderboards come to, a line each, for docs/results.md: `make results` or `make leaderboards`.

Read from the tables that `recdistill compare --markdown` wrote; nothing is computed anew.
"""

from __future__ import annotations

import re
from pathlib import Path

Table = dict[str, dict[str, str]]
TAILS = ("recall_at_10_unpopular", "tail_recall_at_10")
HEADER = ["page", "judged by", "teacher", "control", "best recipe", "it", "less control", "recovery", "best tail"]


def tables(page: str) -> tuple[str, Table]:
    """(what models are judged by, model -> column -> cell) of a page's Markdown."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return header[2], {row[0]: dict(zip(header, row, strict=True)) for row in rows}


def number(cell: str, place: int = 0) -> float:
    """Of `0.1 (0.0 to 0.2)`: the value, or with place 1 the lower bound."""
    found = re.findall(r"[-+]?\d+\.\d+", cell)
    return float(found[place]) if len(found) > place else float("nan")


def line(name: str, page: str) -> str:
    """A page's line: its best recipe, and of those that surely help the one that is best on the tail."""
    metric, models = tables(page)
    control = models["control"]
    beside = {n: m for n, m in models.items() if not n.startswith(("teacher", "control", "bigger", "study_"))}
    best = max(beside, key=lambda n: number(beside[n][metric]))
    tail = next(column for column in TAILS if column in control)
    helps = [n for n in beside if number(beside[n]["less control"], 1) > 0]
    raised = max(helps, key=lambda n: number(beside[n][tail]), default=None)
    about = "none helps" if raised is None else f"{raised} {beside[raised][tail]}, control {control[tail]}"
    it = beside[best]
    cells = [f"[{name}](leaderboards/{name}.md)", metric, models["teacher"][metric], control[metric], best, it[metric]]
    return f"| {' | '.join([*cells, it['less control'], it['recovery'], about])} |"


def pages(folder: Path) -> list[Path]:
    """Those that a comparison wrote."""
    return [path for path in sorted(folder.glob("*.md")) if path.stem != "README"]


def summary(folder: Path) -> list[str]:
    """The Markdown of all pages of a folder."""
    return [
        "## Recipes compared",
        "",
        "The best recipe of each page of [leaderboards](leaderboards/README.md), where the page's command stands",
        "beside all others, named by the test window itself; and of recipes whose gain's interval is above 0, the one",
        "with the highest recall of items off the head. 95% intervals.",
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{'---|' * len(HEADER)}",
        *(line(path.stem, path.read_text()) for path in pages(folder)),
        "",
    ]

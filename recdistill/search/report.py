"""What a search leaves: every trial as CSV, the Pareto front as a plot, the chosen student as a config that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

from recdistill.metrics.pareto import pareto

CSV, PLOT, CHOSEN = "trials.csv", "pareto.svg", "chosen.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that a student may take: p99 of a call in milliseconds, all files of the bundle in 10^6 bytes."""

    p99_ms: float
    megabytes: float

    def overruns(self, found: Mapping[str, Any]) -> tuple[float, float]:
        """By how much each limit is passed, as a share of it; 0 or less fits."""
        return found["p99_ms"] / self.p99_ms - 1, found["bytes"] / (self.megabytes * 1e6) - 1


def table_of(done: Sequence[tuple[int, dict[str, Any], dict[str, Any]]], budget: Budget) -> pd.DataFrame:
    """(number, choice, outcome) of every trial as rows, best AUC first, with `fits` and `pareto`."""
    rows = [
        {"trial": number, **choice, **found, "fits": max(budget.overruns(found)) <= 0} for number, choice, found in done
    ]
    frame = pd.DataFrame(rows)
    points = np.column_stack([-frame["auc"], frame["p99_ms"], frame["bytes"]]).astype(np.float64)
    return frame.assign(pareto=pareto(points)).sort_values(["auc", "trial"], ascending=[False, True], ignore_index=True)


def plot(frame: pd.DataFrame, budget: Budget, path: Path) -> None:
    """AUC against p99 and against megabytes; filled is on the front, the lines are the budget."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    sides = figure.subplots(1, 2, sharey=True)
    megabytes = frame["bytes"] / 1e6
    for axes, values, limit, label in (
        (sides[0], frame["p99_ms"], budget.p99_ms, "p99 of one request, ms"),
        (sides[1], megabytes, budget.megabytes, "bundle, MB"),
    ):
        front = frame["pareto"]
        axes.scatter(values[~front], frame["auc"][~front], facecolors="none", edgecolors="tab:gray", label="beaten")
        axes.scatter(values[front], frame["auc"][front], color="tab:blue", label="Pareto front")
        axes.axvline(limit, color="tab:red", linewidth=1)
        axes.set_xlabel(label)
    sides[0].set_ylabel("AUC, validation window")
    sides[0].legend(frameon=False)
    with matplotlib.rc_context({"svg.hashsalt": "recdistill"}):
        figure.savefig(path, metadata={"Date": None})


def write_config(tree: Mapping[str, Any], command: str, said: str, path: Path) -> None:
    """A config whose first lines are the command that runs it and why it is as it is."""
    text = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True, width=120)
    path.write_text(f"# {command}\n#\n# {said}\n{text}")

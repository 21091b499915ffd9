"""A comparison for people: a table on the terminal, CSV, Markdown, and a plot of quality against size."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from recdistill.metrics.bootstrap import cell
from recdistill.metrics.measure import HIGHER_IS_BETTER
from recdistill.metrics.pareto import pareto

COLUMNS: tuple[str, ...] = ("auc", "gauc", "ndcg_at_10", "ece", "tail_recall_at_10", "teacher_correlation")
COLUMNS += ("recall_at_10", "recall_at_50", "ndcg_at_50", "recall_at_10_popular", "recall_at_10_unpopular")
SIGNIFICANT = 0.05
FAR = 3.0
_BESIDE: Any = {"textcoords": "offset points", "fontsize": 8}


def heading(found: Mapping[str, Any]) -> str:
    """What was compared, in a line."""
    rows, users, seeds = (f"{found[name]:,}" for name in ("num_rows", "num_users", "seeds"))
    tuned = f", settings by {found['trials']} trials each" if found.get("trials") else ""
    return (
        f"{found['name']}: {rows} test rows by {users} users, {seeds} seeds{tuned}; 95% intervals over users and seeds"
    )


def as_text(found: Mapping[str, Any], metric: str) -> str:
    """A line per model: recovery, metric with its gain over the control, corrected p, calibration, cost."""
    table = Table(title=heading(found))
    for name in ("model", "recovery", metric, "less control", "p (Holm)", "ece", "cost", "kB", "p99"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for model in found["models"]:
        if "refused" in model:
            table.add_row(model["name"], f"cannot run here: {model['refused']}")
            continue
        gain = "" if model["p"] is None else cell(model["gain"][metric], signed=True)
        table.add_row(
            _named(model),
            cell(model["recovery"]),
            cell(model["metrics"][metric]),
            gain,
            _p(model),
            _short(model["metrics"].get("ece", (None,))),
            _cost(model),
            _kilobytes(model),
            _p99(model),
        )
    out = io.StringIO()
    Console(file=out, width=170, no_color=True).print(table)
    return out.getvalue()


def as_markdown(found: Mapping[str, Any], metric: str) -> str:
    """The same for a page, with more metrics."""
    others = [name for name in COLUMNS if name != metric and name in found["models"][0]["metrics"]]
    names = ["model", "recovery", metric, "less control", "p (Holm)", *others, "training", "kB", "p99 of a reference's"]
    lines = [f"{heading(found)}.", "", f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    refused = []
    for model in found["models"]:
        if "refused" in model:
            refused.append(f"- {model['name']} cannot run here: {model['refused']}")
            continue
        gain = "" if model["p"] is None else cell(model["gain"][metric], signed=True)
        cells = [_named(model), cell(model["recovery"]), cell(model["metrics"][metric]), gain, _p(model)]
        cells += [_short(model["metrics"][name]) for name in others]
        cells += [_cost(model), _kilobytes(model), _p99(model)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *refused]) + "\n"


def write_csv(found: Mapping[str, Any], path: Path) -> None:
    """A line per model; every metric, gain and the recovery with low and high ends."""
    models = [model for model in found["models"] if "refused" not in model]
    flat = [_flat(model) for model in models]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for entry in flat for name in entry)))
        writer.writeheader()
        writer.writerows(flat)


def _flat(model: Mapping[str, Any]) -> dict[str, Any]:
    out = {name: model.get(name) for name in ("name", "parameters", "bytes", "p99_ms", "p99_ratio", "cost", "p")}
    groups = {"": model["metrics"], "gain_": model["gain"], "recovery": {"": model["recovery"]}}
    for before, values in groups.items():
        for name, ends in values.items():
            for end, value in zip(("", "_low", "_high"), ends, strict=True):
                out[f"{before}{name}{end}"] = value
    return out


def plot(found: Mapping[str, Any], metric: str, path: Path) -> None:
    """Every model against the control, with intervals; beside it quality against bytes and against p99.

    In those two a line joins the models that no other one beats in both. A model further from the control than FAR of
    the teacher's leads is named at the edge with its difference, so that the others can be told apart.
    """
    from matplotlib.figure import Figure  # not pyplot, whose backend is a notebook's own

    compared = [model for model in found["models"] if "gain" in model and model["name"] not in ("teacher", "control")]
    of = {model["name"]: model["metrics"][metric][0] for model in found["models"] if "metrics" in model}
    edge = FAR * abs(of["teacher"] - of["control"])
    served = [
        model
        for model in found["models"]
        if model.get("bytes") is not None and abs(of[model["name"]] - of["control"]) <= edge
    ]
    sizes = {"bytes": ("kB of the bundle", 1e-3), "p99_ratio": ("p99 over a reference's", 1.0)} if served else {}
    figure = Figure(figsize=(5 + 4 * (1 + len(sizes)), 2 + 0.22 * len(compared)), layout="constrained")
    forest, *panels = figure.subplots(1, 1 + len(sizes), width_ratios=(2, 1, 1)[: 1 + len(sizes)], squeeze=False)[0]
    _forest(forest, compared, metric, of["teacher"] - of["control"], edge)
    for axes, (size, (label, scale)) in zip(panels, sizes.items(), strict=True):
        _panel(axes, served, metric, size, scale)
        axes.set_xlabel(label)
    figure.savefig(path, metadata={"Date": None})


def _forest(axes: Any, compared: Sequence[Mapping[str, Any]], metric: str, lead: float, edge: float) -> None:
    gain = np.array([model["gain"][metric] for model in compared], dtype=np.float64).reshape(-1, 3)
    order = np.argsort(gain[:, 0])
    ends = np.abs(gain[order, 1:].T - gain[order, 0])
    axes.errorbar(gain[order, 0], range(len(order)), xerr=ends, fmt="o", capsize=3)
    axes.set_yticks(range(len(order)), [compared[place]["name"] for place in order])
    for name, place in (("control", 0.0), ("teacher", lead)):
        axes.axvline(place, color="grey", linewidth=1, linestyle=":" if name == "teacher" else "-")
        axes.annotate(name, (place, 1), (2, 2), xycoords=("data", "axes fraction"), **_BESIDE)
    far = np.abs(gain[order, 0]) > edge
    if far.any():
        low, high = axes.get_xlim()
        axes.set_xlim(max(-edge, low), min(edge, high))
    for row in np.flatnonzero(far):
        side = float(gain[order[row], 0] > 0)
        text = f"{gain[order[row], 0]:+.4f}"
        axes.annotate(text, (side, row), xycoords=("axes fraction", "data"), ha="right" if side else "left", fontsize=8)
    axes.set_xlabel(f"{metric} less the control's")


def _panel(axes: Any, models: Sequence[Mapping[str, Any]], metric: str, size: str, scale: float) -> None:
    points = np.array([(model[size] * scale, model["metrics"][metric][0]) for model in models], dtype=np.float64)
    axes.plot(*points.T, "o", alpha=0.5)
    best = pareto(points * (1, -1 if HIGHER_IS_BETTER.get(metric, True) else 1))
    front = points[best]
    axes.plot(*front[np.argsort(front[:, 0])].T, color="grey", linewidth=1)
    for place in np.arange(len(points))[best]:
        axes.annotate(models[place]["name"], points[place], (4, 2), **_BESIDE)
    if points[:, 0].max() > 5 * points[:, 0].min():
        axes.set_xscale("log")
    axes.set_ylabel(metric)


def _named(model: Mapping[str, Any]) -> str:
    """With its control, where that is another one than most have."""
    control = model["control"]
    return f"{model['name']} (less {control})" if control not in ("control", model["name"]) else str(model["name"])


def _p(model: Mapping[str, Any]) -> str:
    p = model["p"]
    if p is None:
        return ""
    return "<0.001*" if p < 0.001 else f"{p:.3f}{'*' if p < SIGNIFICANT else ''}"


def _cost(model: Mapping[str, Any]) -> str:
    return "" if model["cost"] is None else f"x{model['cost']:.2f}"


def _kilobytes(model: Mapping[str, Any]) -> str:
    return "" if model["bytes"] is None else f"{model['bytes'] / 1000:,.0f}"


def _p99(model: Mapping[str, Any]) -> str:
    return "" if model["p99_ratio"] is None else f"x{model['p99_ratio']:.2f}"


def _short(value: Sequence[float | None]) -> str:
    return "none" if value[0] is None else f"{value[0]:.4f}"

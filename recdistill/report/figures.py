"""The report's plots, each from plain numbers: forest, reliability, agreement, popularity, learning curves, drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from recdistill.metrics.rows import Floats
from recdistill.report.drawing import COLOURS, MARKERS, Drawing, drawing
from recdistill.report.judged import Band, Bin

Ends = Sequence[float | None]
Line = tuple[str, str, Ends]
"""What it is called, whose colour and marker it has, and [value, low, high]; ends of None are not drawn."""
_HEXAGONS = 24
_SHAPES = ["-", "--", ":"]


def forest(lines: Sequence[Line], label: str, *, zero: bool = False) -> Drawing:
    """A value with its interval per line, the first on top. zero: mark where there is no difference."""
    with drawing(0.9 + 0.42 * len(lines)) as drawn:
        axes = drawn.axes
        for place, (_, whose, (value, low, high)) in enumerate(lines):
            if value is None:
                continue
            ends = None if low is None or high is None else [[max(value - low, 0)], [max(high - value, 0)]]
            axes.errorbar(value, place, xerr=ends, fmt=MARKERS[whose], color=COLOURS[whose], capsize=4, markersize=7)
        if zero:
            axes.axvline(0, color=COLOURS["ink"], linewidth=1)
        axes.set_yticks(range(len(lines)), [title for title, _, _ in lines])
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(label)
    return drawn


def reliability(bins: Mapping[str, Sequence[Bin]]) -> Drawing:
    """Observed against predicted rates; intervals of the student alone, so that they can be told apart."""
    with drawing(3.8) as drawn:
        axes = drawn.axes
        most = max(max(one.predicted, one.high) for found in bins.values() for one in found) * 1.03
        axes.plot([0, most], [0, most], color=COLOURS["muted"], linewidth=1, linestyle="--", label="perfect")
        for model, found in bins.items():
            x, y = ([getattr(one, name) for one in found] for name in ("predicted", "observed"))
            style: Any = {"color": COLOURS[model], "marker": MARKERS[model], "markersize": 5, "linewidth": 1.4}
            axes.plot(x, y, label=model, **style)
            if model == "student":
                low, high = ([getattr(one, name) for one in found] for name in ("low", "high"))
                axes.fill_between(x, low, high, color=COLOURS[model], alpha=0.18, linewidth=0)
        axes.set_xlabel("predicted probability, mean of the bin")
        axes.set_ylabel("share of positives")
        _legend(axes)
    return drawn


def agreement(teacher: Floats, student: Floats) -> Drawing:
    """Student's logits against the teacher's, darker where there are more rows; the line is where they are equal."""
    with drawing(3.8) as drawn:
        axes = drawn.axes
        x0, x1, y0, y1 = (float(np.quantile(v, q)) for v in (teacher, student) for q in (0.001, 0.999))
        kept = (teacher >= x0) & (teacher <= x1) & (student >= y0) & (student <= y1)
        cells = axes.hexbin(teacher[kept], student[kept], gridsize=_HEXAGONS, mincnt=1, linewidths=0)
        counts = np.asarray(cells.get_array(), dtype=np.float64)
        shade = 0.12 + 0.88 * np.log1p(counts) / np.log1p(counts.max(initial=1))
        cells.set_array(None)
        cells.set_facecolor([(COLOURS["student"], float(alpha)) for alpha in shade])
        low, high = min(x0, y0), max(x1, y1)
        axes.plot([low, high], [low, high], color=COLOURS["ink"], linewidth=1, linestyle="--")
        axes.set_xlabel("teacher's logit")
        axes.set_ylabel("student's logit")
    return drawn


def by_popularity(bands: Sequence[Band], of: str, label: str, *, rows_too: bool = False) -> Drawing:
    """A figure of each model by band of popularity. of: "auc" or "first". rows_too: also the share of rows shown."""
    with drawing() as drawn:
        axes = drawn.axes
        places = np.arange(len(bands))
        if rows_too:
            total = sum(band.num_rows for band in bands)
            shares = [band.num_rows / total for band in bands]
            axes.bar(places, shares, color=COLOURS["line"], width=0.6, label="rows shown")
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        for model in getattr(bands[0], of):
            values = [getattr(band, of)[model] for band in bands]
            axes.plot(places, values, color=COLOURS[model], marker=MARKERS[model], markersize=6, label=model)
        axes.set_xticks(places, [band.title.replace(" ", "\n", 1) for band in bands])
        axes.set_ylabel(label)
        _legend(axes)
    return drawn


def learning(curves: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], metric: str) -> Drawing:
    """Quality on the validation window by epoch; a line per seed. curves: model -> its trainings -> their checks."""
    with drawing() as drawn:
        axes = drawn.axes
        for model, trainings in curves.items():
            for number, checks in enumerate(trainings):
                label = model if number == 0 else None
                _curve(axes, model, [c["epoch"] for c in checks], [c["valid_auc"] for c in checks], label, "-")
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{metric}, validation window")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _legend(axes)
    return drawn


def losses(checks: Mapping[str, Sequence[Mapping[str, Any]]]) -> Drawing:
    """Every named training loss by epoch. checks: model -> the checks of one training."""
    with drawing() as drawn:
        axes = drawn.axes
        for model, found in checks.items():
            for number, name in enumerate(found[0]["losses"]):
                title = f"{model}: {name}"
                values = [check["losses"].get(name, np.nan) for check in found]
                _curve(axes, model, [c["epoch"] for c in found], values, title, _SHAPES[number % len(_SHAPES)])
        axes.set_xlabel("epoch")
        axes.set_ylabel("training loss")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _legend(axes, columns=2)
    return drawn


def _legend(axes: Axes, columns: int = 4) -> None:
    """Above the axes, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.05, 1.0), ncols=columns, columnspacing=1.0, handletextpad=0.4)


def _curve(axes: Axes, model: str, x: Sequence[float], y: Sequence[float], label: str | None, shape: str) -> None:
    colour, marker = COLOURS[model], MARKERS[model]
    axes.plot(x, y, color=colour, marker=marker, markersize=4, linewidth=1.4, label=label, linestyle=shape)


def drift(lines: Sequence[Mapping[str, Any]]) -> Drawing:
    """The PSI of each feature of the test window, the largest on top; the mark is what noise alone would give."""
    with drawing(0.9 + 0.32 * len(lines)) as drawn:
        axes = drawn.axes
        places = range(len(lines))
        axes.barh(places, [line["psi"] for line in lines], color=COLOURS["student"], height=0.6)
        axes.scatter(
            [line["psi_noise"] for line in lines], places, marker="|", s=160, color=COLOURS["ink"], label="noise alone"
        )
        axes.set_yticks(places, [line["feature"] for line in lines])
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("population stability index")
        _legend(axes)
    return drawn

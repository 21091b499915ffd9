"""The sections on how the models were made and what they cost: learning curves, size, latency, drift of the data."""

from __future__ import annotations

import math
from typing import Any

from recdistill.report import figures
from recdistill.report.blocks import Plot, Section, Table
from recdistill.report.facts import NUM_CANDIDATES, Facts
from recdistill.report.words import number, size

_MOST_FEATURES = 15


def learning(facts: Facts) -> Section:
    """How teacher, students and controls learnt."""
    trained = {"teacher": [facts.teacher["curve"]], **facts.students["curves"]}
    last = {model: checks[0][-1] for model, checks in trained.items()}
    best = {model: max(_values(found), default=math.nan) for model, found in trained.items()}
    metric = "AUC" if facts.run.data.pairs is None else facts.metric
    rows = [
        [
            model,
            str(len(found)),
            f"{best[model]:.4f}",
            f"{last[model]['epoch']:g}",
            f"{last[model]['rows_per_s']:,.0f}",
            f"{last[model]['seconds']:,.0f}",
        ]
        for model, found in trained.items()
    ]
    spoken = "; ".join(f"{model}, best {value:.4f}" for model, value in best.items())
    losses = figures.losses({model: found[0] for model, found in trained.items() if model != "control"})
    return Section(
        name="learning",
        title="Learning",
        said="A line per seed. The weights that are kept are those of the best check.",
        plots=[
            Plot(
                svg=figures.learning(trained, metric).svg(
                    "learning", f"{metric} on the validation window by epoch: {spoken}."
                ),
                caption=f"{metric} on the validation window.",
            ),
            Plot(
                svg=losses.svg("losses", "Training losses of the teacher and of the student's first seed by epoch."),
                caption="Training losses: the teacher's, and each term of the student's recipe (first seed).",
            ),
        ],
        tables=[
            Table(
                caption="Training, first seed",
                headings=["model", "seeds", f"best {metric}", "epochs", "rows/s", "seconds"],
                rows=rows,
            )
        ],
    )


def _values(trainings: list[list[dict[str, Any]]]) -> list[float]:
    """Every check's quality; one that was not finite has none."""
    return [check["valid_auc"] for checks in trainings for check in checks if check["valid_auc"] is not None]


def cost(facts: Facts) -> Section:
    """Bytes, parameters and the time of a request."""
    exported, measured = facts.exported, facts.latency
    weights = sum(path.stat().st_size for path in facts.folders["train_teacher"].glob("*.safetensors"))
    parts = [
        ["bundle, all files", size(exported["bytes"])],
        ["its graph", size(exported["graph_bytes"])],
        ["its vocabularies", size(exported["encoder_bytes"])],
        ["teacher's weights", size(weights)],
        ["parameters of the student", f"{facts.students['parameters']:,}"],
        ["parameters of the teacher", f"{facts.teacher['parameters']:,}"],
        ["student's share of them", f"{facts.decision['parameter_share']:.2%}"],
        ["largest difference from torch", f"{exported['max_difference']:.1e}"],
    ]
    times = [
        ["p50", f"{measured.p50_ms:.3f} ms"],
        ["p99", f"{measured.p99_ms:.3f} ms"],
        ["p99 over the reference graph's", f"{measured.p99_ratio:.2f}"],
    ]
    if facts.decision.get("p99_ratio") is not None:
        times.append(["the same, as the gate saw it", f"{facts.decision['p99_ratio']:.2f}"])
    return Section(
        name="cost",
        title="Bytes and latency",
        said=f"{facts.exported['shipped']} ships. Time: {NUM_CANDIDATES} candidates through the graph on one thread, "
        "as measured for this page; the reference is a fixed graph timed in turn with it.",
        tables=[
            Table(caption="Size", headings=["what", "size"], rows=parts),
            Table(caption="Time of a request", headings=["what", "time"], rows=times),
            Table(caption="Tables of the student", headings=["table", "parameters", "bytes"], rows=_tables(exported)),
        ],
    )


def _tables(exported: dict[str, Any]) -> list[list[str]]:
    return [[name, f"{one['parameters']:,}", size(one["bytes"])] for name, one in exported["tables"].items()]


def drift(facts: Facts) -> Section | None:
    """How far the test window lies from the train window."""
    lines = [line for line in facts.drift if line["partition"] == "test window" and line["psi"] is not None]
    lines.sort(key=lambda line: -line["psi"])
    if not lines:
        return None
    shown = lines[:_MOST_FEATURES]
    rows = [
        [
            line["feature"],
            number(line["psi"]),
            number(line["psi_noise"]),
            number(line["js"]),
            _share(line["unknown"]),
            f"{_share(line['absent'])} ({line['absent_change']:+.2%})",
        ]
        for line in lines
    ]
    worst = "; ".join(f"{line['feature']} {line['psi']:.4f}" for line in shown)
    return Section(
        name="drift",
        title="Drift",
        said="Population stability index of each feature: 0.1 is small, 0.25 large.",
        plots=[
            Plot(
                svg=figures.drift(shown).svg("drift", f"Population stability index of the test window: {worst}."),
                caption="Test window against train window; the mark is what so many rows give without any drift.",
            )
        ],
        tables=[
            Table(
                caption="Every feature",
                headings=["feature", "psi", "noise", "js", "unknown", "absent (change)"],
                rows=rows,
                folded=True,
            )
        ],
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"

"""The sections on how good the student is: models, calibration, agreement with the teacher, popularity, slices."""

from __future__ import annotations

from typing import Any

from recdistill.metrics.bootstrap import cell
from recdistill.metrics.measure import HIGHER_IS_BETTER
from recdistill.report import figures
from recdistill.report.blocks import Plot, Section, Table
from recdistill.report.facts import Facts
from recdistill.report.words import number
from recdistill.result import MODELS


def models(facts: Facts) -> Section:
    """Teacher, control, student and champion on the same rows, with intervals, and their paired differences."""
    report, metric = facts.evaluated, facts.metric
    values, apart = _values(facts), _differences(facts)
    names = [name for name in HIGHER_IS_BETTER if name in report["models"]["teacher"]]
    names += [name for name in report["models"]["teacher"] if name not in names]
    rows = [
        [
            f"{name} {'↑' if HIGHER_IS_BETTER.get(name, True) else '↓'}",
            *(cell(report["models"][model][name]) for model in MODELS),
            cell(report["gain"][name], signed=True),
        ]
        for name in names
    ]
    rows.append(["recovery ↑", "", cell(report["recovery"]), "", "", ""])
    counts = ", ".join(f"{report[name]:,} {of}" for name, of in (("num_rows", "rows"), ("num_users", "users")))
    return Section(
        name="models",
        title="Teacher, control, student, champion",
        said=f"{counts}; {report['seeds']} seeds. Intervals are 95%, over users and seeds; differences are paired.",
        plots=[
            Plot(
                svg=figures.forest(values, f"{metric} on the test window").svg("forest", _spoken(metric, values)),
                caption=f"{metric} of each model; student is the mean of its seeds, shipped the seed that ships.",
            ),
            Plot(
                svg=figures.forest(apart, f"difference in {metric}", zero=True).svg(
                    "differences", _spoken(f"difference in {metric}", apart)
                ),
                caption="Paired differences on the same rows. An interval that holds 0 may be noise.",
            ),
        ],
        tables=[Table(caption="Every metric", headings=["metric", *MODELS, "student - control"], rows=rows)],
    )


def _values(facts: Facts) -> list[figures.Line]:
    found = facts.evaluated["models"]
    whose = {"teacher": "teacher", "control": "control", "student": "student", "shipped": "student"}
    lines = [(name, of, found[name][facts.metric]) for name, of in whose.items()]
    if facts.champion is not None:
        lines.append((f"champion (v{facts.champion['version']})", "champion", _champion_value(facts)))
    return lines


def _champion_value(facts: Facts) -> list[float | None]:
    """Its own interval where the decision has it; else the value alone, from the paired difference."""
    assert facts.champion is not None
    if "value" in facts.champion:
        own: list[float | None] = facts.champion["value"]
        return own
    shipped = facts.evaluated["models"]["shipped"][facts.metric][0]
    less = facts.champion["difference"][facts.metric][0]
    return [None if shipped is None or less is None else shipped - less, None, None]


def _differences(facts: Facts) -> list[figures.Line]:
    report, metric = facts.evaluated, facts.metric
    lines = [
        ("teacher - control", "teacher", report["gap"][metric]),
        ("student - control", "student", report["gain"][metric]),
    ]
    if facts.champion is not None:
        lines.append(("shipped - champion", "champion", facts.champion["difference"][metric]))
    frozen = facts.decision.get("reference")
    if frozen and "difference" in frozen:
        lines.append((f"shipped - reference (v{frozen['version']})", "champion", frozen["difference"][metric]))
    return lines


def _spoken(what: str, lines: list[figures.Line]) -> str:
    return f"{what}: " + "; ".join(f"{title} {cell(v) if v[1] is not None else number(v[0])}" for title, _, v in lines)


def scores(facts: Facts) -> Section | None:
    """Probabilities against what happened, and the student's scores against the teacher's."""
    if facts.judged is None:
        return None
    bins = {model: facts.judged.bins(model, facts.run.seed) for model in facts.judged.logit}
    found, logit = facts.evaluated["models"], facts.judged.logit
    said = [
        f"{title}: " + ", ".join(f"{name} {number(found[of][metric][0])}" for name, of in whose.items())
        for title, metric, whose in _AGREE
        if metric in found["shipped"]
    ]
    return Section(
        name="scores",
        title="Calibration and agreement with the teacher",
        said=". ".join(said) + ".",
        plots=[
            Plot(
                svg=figures.reliability(bins).svg("reliability", f"Reliability diagram. {said[0]}."),
                caption="On the dashed line, what is predicted happens. Bins of equal numbers of rows; the band is the "
                "student's 95% interval over users.",
            ),
            Plot(
                svg=figures.agreement(logit["teacher"], logit["student"]).svg(
                    "agreement", f"Student's logits against the teacher's. {'. '.join(said[1:])}."
                ),
                caption="Every row of the test window but the outermost 0.1%; on the dashed line both say the same.",
            ),
        ],
        tables=[
            Table(
                caption="The student's bins",
                headings=["predicted", "observed"],
                rows=[[f"{one.predicted:.4f}", cell([one.observed, one.low, one.high])] for one in bins["student"]],
                words=0,
                folded=True,
            )
        ],
    )


_TWO = {"student": "shipped", "control": "control"}
_AGREE = (
    ("Expected calibration error", "ece", {"teacher": "teacher", **_TWO}),
    ("Correlation of the logits with the teacher's", "teacher_correlation", _TWO),
    ("Overlap of the top 10 with the teacher's", "teacher_overlap_at_10", _TWO),
)


def popularity(facts: Facts) -> Section | None:
    """Whether the student is good on rare items, and whether it puts them first as its teacher does."""
    if facts.judged is None or not facts.judged.bands:
        return None
    bands = facts.judged.bands
    rows = [
        [
            band.title,
            f"{band.num_items:,}",
            f"{band.num_rows:,}",
            *(f"{band.auc[model]:.4f}" for model in band.auc),
            *(f"{band.first[model]:.1%}" for model in band.first),
        ]
        for band in bands
    ]
    headings = ["items", "items seen", "rows", *(f"AUC, {m}" for m in bands[0].auc)]
    headings += [f"first place, {m}" for m in bands[0].first]
    first = figures.by_popularity(bands, "first", "share of first places", rows_too=True)
    return Section(
        name="popularity",
        title="Popularity",
        said="Items in five bands of about a fifth of the train window's positives each. Point values, no intervals.",
        plots=[
            Plot(
                svg=figures.by_popularity(bands, "auc", "AUC").svg("popularity-auc", _bands_spoken(bands, "auc")),
                caption="How well rows of such items are ordered.",
            ),
            Plot(
                svg=first.svg("popularity-first", _bands_spoken(bands, "first")),
                caption="How often such an item is put first, beside how often it was among the rows.",
            ),
        ],
        tables=[Table(caption="The bands", headings=headings, rows=rows, folded=True)],
    )


def _bands_spoken(bands: Any, of: str) -> str:
    parts = [f"{b.title}: " + ", ".join(f"{m} {v:.3f}" for m, v in getattr(b, of).items()) for b in bands]
    return "By popularity of the item. " + "; ".join(parts) + "."


def slices(facts: Facts) -> Section | None:
    """The candidate against the champion in every slice that the gates look at."""
    found = (facts.champion or {}).get("slices") or []
    judged = [one for one in found if one["difference"] is not None]
    if not found:
        return None
    rows = [
        [
            one["name"],
            f"{one['rows']:,}",
            f"{one['users']:,}",
            "too few users" if one["difference"] is None else cell(one["difference"], signed=True),
        ]
        for one in found
    ]
    lines = [(one["name"], "champion", one["difference"]) for one in judged]
    plots = []
    if lines:
        drawn = figures.forest(lines, f"{facts.metric}, shipped - champion", zero=True)
        spoken = _spoken(f"shipped less champion in {facts.metric}", lines)
        plots = [Plot(svg=drawn.svg("slices", spoken), caption="Intervals hold for all slices at once.")]
    return Section(
        name="slices",
        title="Slices",
        said=f"{facts.metric} of the shipped student less the champion's, in every slice of gates.slices.",
        plots=plots,
        tables=[Table(caption="Slices", headings=["slice", "rows", "users", "difference"], rows=rows)],
    )

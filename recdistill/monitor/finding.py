"""What one look found: JSON, a table, alarms in words, and Prometheus text for a node exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from recdistill.config.run import Run
from recdistill.files import write_json
from recdistill.metrics.bootstrap import cell
from recdistill.monitor.quality import steps_of
from recdistill.monitor.staleness import render

Sample = tuple[str, dict[str, str], float]  # name without its prefix, labels beside the model's, value
PREFIX = "recdistill_monitor_"
_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """kind: drift, quality, health or staleness. found: all of it. alarms: what somebody is to be told, a line each."""

    kind: str
    found: dict[str, Any]
    lines: list[str]
    alarms: list[str]
    samples: list[Sample]


def of_drift(found: dict[str, Any]) -> Finding:
    """Features, furthest off first."""
    features = sorted(found["features"], key=lambda one: (one["psi_noise"] or 0) - (one["psi"] or 0))
    rows = [["feature", "psi", "noise", "js", "unknown", "absent", ""]]
    for one in features:
        shown = [_number(one[name]) for name in ("psi", "psi_noise", "js", "unknown", "absent")]
        rows.append([one["feature"], *shown, "DRIFT" if one["drifted"] else ""])
    alarms = [
        f"drift of {one['feature']}: psi {_number(one['psi'])}, unknown {_number(one['unknown'])}, "
        f"over {found['rows']:,} rows against champion {found['champion']}"
        for one in features
        if one["drifted"]
    ]
    samples: list[Sample] = [("drifted_features", {}, float(len(alarms)))]
    for name in ("psi", "unknown", "absent"):
        samples += [
            (f"drift_{name}", {"feature": one["feature"]}, one[name]) for one in features if one[name] is not None
        ]
    return Finding(kind="drift", found=found, lines=_table(rows), alarms=alarms, samples=samples)


def of_quality(run: Run, found: dict[str, Any]) -> Finding:
    """The latest windows, and the alarms that fired in a window that was judged for the first time."""
    rows = [["window", "slice", "rows", "auc", "ndcg_at_10", "calibration", ""]]
    fired = {(one["window"], one["slice"]): one["metric"] for one in found["alarms"]}
    for window in found["windows"][-_SHOWN:]:
        for name, one in window["slices"].items():
            shown = [cell(one["metrics"].get(metric, [None] * 3)) for metric in ("auc", "ndcg_at_10", "calibration")]
            mark = f"ALARM {fired[window['start'], name]}" if (window["start"], name) in fired else ""
            rows.append([window["start"][:16], name, f"{one['rows']:,}", *shown, mark])
    alarms = [
        f"{one['metric']} of {one['slice']} in the window from {one['window']}: {cell(one['value'])}, "
        f"{one['before']:.4f} on average before"
        for one in found["alarms"]
        if one["window"] in found["new"]
    ]
    return Finding(kind="quality", found=found, lines=_table(rows), alarms=alarms, samples=_quality_samples(run, found))


def _quality_samples(run: Run, found: dict[str, Any]) -> list[Sample]:
    samples: list[Sample] = [
        ("quality_alarms", {}, float(len(found["alarms"]))),
        ("quality_windows", {}, float(len(found["windows"]))),
        ("labels_late", {}, float(found["late"])),
    ]
    if not found["windows"]:
        return samples
    last = found["windows"][-1]
    samples.append(("quality_window_end_seconds", {}, datetime.fromisoformat(last["end"]).timestamp()))
    for name, one in last["slices"].items():
        for metric, value in one["metrics"].items():
            for place, end in enumerate(("", "_low", "_high")):
                if value[place] is not None:
                    samples.append((f"quality{end}", {"slice": name, "metric": metric}, value[place]))
    steps = steps_of(run, found["windows"])
    threshold = run.monitor.false_alarm_every * len(steps)
    for (name, metric), series in steps.items():
        labels = {"slice": name, "metric": metric}
        samples.append(("quality_evidence_of_threshold", labels, series[-1].evidence / threshold))
    return samples


def of_health(found: dict[str, Any]) -> Finding:
    """A line a check."""
    rows = [["check", "found", "wanted", ""]]
    rows += [
        [one["name"], _number(one["value"]), _number(one["limit"]), "" if one["fine"] else "ALARM"]
        for one in found["checks"]
    ]
    alarms = [
        f"{found['url']}: {one['name']}: wanted {_number(one['limit'])}, found {_number(one['value'])}"
        for one in found["checks"]
        if not one["fine"]
    ]
    samples: list[Sample] = [("scorer_requests", {}, found["requests"])]
    for one in found["checks"]:
        samples.append(("scorer_fine", {"check": one["name"]}, float(one["fine"])))
        if isinstance(one["value"], float):
            samples.append(("scorer", {"check": one["name"]}, one["value"]))
    return Finding(kind="health", found=found, lines=_table(rows), alarms=alarms, samples=samples)


def of_staleness(found: dict[str, Any]) -> Finding:
    """The curve; nobody is told."""
    samples: list[Sample] = [("retrain_windows", {}, float(found["interval"]["windows"]))]
    samples += [("stale_loss", {"age": str(one["age"])}, one["loss"][0]) for one in found["curve"]]
    return Finding(kind="staleness", found=found, lines=render(found), alarms=[], samples=samples)


def keep(run: Run, finding: Finding, textfile: Path | None) -> Path:
    """Write KIND.json into the run's folder and, where asked for, a .prom file into another; whole or not at all."""
    folder = Path(run.folder) / "monitor"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.kind}.json"
    write_json(path, {"alarms_now": finding.alarms, **finding.found})
    if textfile is not None:
        textfile.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(textfile / f"recdistill_{run.model}_{finding.kind}.prom"), exposition(run, finding))
    return path


def exposition(run: Run, finding: Finding) -> CollectorRegistry:
    """The samples, each with the label `model`, and how many alarms this look raised."""
    registry, gauges = CollectorRegistry(), {}
    samples = [*finding.samples, ("alarms_now", {"kind": finding.kind}, float(len(finding.alarms)))]
    for name, labels, value in samples:
        if name not in gauges:
            title = f"{name.replace('_', ' ')}: docs/monitoring.md"
            gauges[name] = Gauge(PREFIX + name, title, ["model", *labels], registry=registry)
        gauges[name].labels(run.model, *labels.values()).set(value)
    return registry


def _number(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

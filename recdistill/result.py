"""What a run ends with: the JSON line, and the tables that a person reads."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from recdistill.config.run import Run
from recdistill.files import read_json
from recdistill.metrics.bootstrap import cell
from recdistill.metrics.measure import HIGHER_IS_BETTER

MODELS = ("teacher", "student", "control", "shipped")
_SHOWN = MODELS[:3]


def result(run: Run, folders: Mapping[str, Path]) -> dict[str, Any]:
    """teacher, student, control, shipped (metric -> [value, low, high]), gain, gap, recovery, verdict, ..."""
    report = read_json(folders["evaluate"] / "report.json")
    published = read_json(folders["publish"] / "published.json")
    decision = read_json(folders["decide"] / "decision.json")
    return {
        **{name: report["models"][name] for name in MODELS},
        "gain": report["gain"],
        "gap": report["gap"],
        "recovery": report["recovery"],
        "parameter_share": decision["parameter_share"],
        "verdict": decision["verdict"],
        "gates": decision["gates"],
        "model": published["model"],
        "version": published["version"],
        "run_dir": str(run.folder),
    }


def tables(found: Mapping[str, Any]) -> str:
    """The models' metrics with 95% intervals, and the gates' verdicts, as text."""
    return _text(_models(found)) + _text(_gates(found))


def _models(found: Mapping[str, Any]) -> Table:
    table = Table(title="Test window, 95% intervals over users and seeds")
    for heading in ("metric", *_SHOWN, "student - control"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for metric in found["teacher"]:
        cells = [cell(found[model][metric]) for model in _SHOWN]
        gain = cell(found["gain"][metric], signed=True)
        table.add_row(f"{metric} {'up' if HIGHER_IS_BETTER.get(metric, True) else 'down'}", *cells, gain)
    table.add_row("recovery", "", cell(found["recovery"]), "", "")
    return table


def _gates(found: Mapping[str, Any]) -> Table:
    table = Table(title=f"Gates: {found['verdict']}")
    for heading in ("gate", "wanted", "found", "verdict"):
        table.add_column(heading)
    for gate in found["gates"]:
        table.add_row(gate["name"], gate["wanted"], gate["found"], gate["verdict"])
    return table


def _text(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=140, no_color=True).print(table)
    return out.getvalue()

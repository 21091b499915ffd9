"""The sections on where a run comes from: data, steps, code, versions, config; and what changed since the champion."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import yaml

from recdistill import __version__
from recdistill.files import digest, manifest
from recdistill.metrics.bootstrap import cell
from recdistill.report.blocks import Section, Table, Text
from recdistill.report.changes import Change, Changes
from recdistill.report.facts import Facts
from recdistill.report.words import moment, number, size

_PACKAGES = ("torch", "torchrec", "onnxruntime", "pyarrow", "numpy", "mlflow")


def lineage(facts: Facts) -> Section:
    """What the candidate is made of, so that it can be made again."""
    config = facts.run.model_dump(mode="json")
    data = facts.data
    windows = [
        [name, moment(data["windows"][begin]), moment(data["windows"][end]), *_counts(facts, name)]
        for name, begin, end in (("train", "start", "valid"), ("valid", "valid", "test"), ("test", "test", "end"))
    ]
    facts_of_it = [
        ["log", str(data["source"])],
        ["files", f"{data['num_files']:,}"],
        ["fingerprint of the log", data["fingerprint"]],
        ["encoder", data["encoder"]],
        ["config, sha256", digest(config)],
        ["bundle, sha256", facts.exported["bundle_sha256"]],
        ["seed", str(facts.run.seed)],
        ["MLflow", f"{facts.run.registry.tracking_uri}, run {facts.published['run_id']}"],
        ["device of the teacher", str(facts.teacher["device"])],
        ["recdistill", __version__],
        ["python", platform.python_version()],
        *([name, importlib.metadata.version(name)] for name in _PACKAGES),
    ]
    steps = [_step(name, folder) for name, folder in facts.folders.items()]
    return Section(
        name="lineage",
        title="Lineage",
        said="Windows in UTC. A step's key is a digest of its settings, the steps before it, the data and the code.",
        tables=[
            Table(
                caption="Data window",
                headings=["window", "from", "to", "rows", "positives"],
                rows=windows,
            ),
            Table(caption="Made of", headings=["what", "which"], rows=facts_of_it, words=2),
            Table(caption="Steps", headings=["step", "key", "finished, UTC", "size"], rows=steps, words=3, folded=True),
        ],
        texts=[Text(caption="Config, whole", lines=yaml.safe_dump(config, sort_keys=False, allow_unicode=True))],
    )


def _counts(facts: Facts, window: str) -> tuple[str, str]:
    rows, positives = facts.data[window]["rows"], facts.data[window]["positives"]
    return f"{rows:,}", f"{positives / max(1, rows):.2%}"


def _step(name: str, folder: Path) -> list[str]:
    about = manifest(folder) or {"key": "", "files": {}}
    finished = datetime.fromtimestamp(folder.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return [name, about["key"][:12], finished, size(sum(file["size"] for file in about["files"].values()))]


def changes(facts: Facts) -> Section | None:
    """What is different from the champion that the candidate faced."""
    found = facts.changes
    if found is None:
        return None
    if isinstance(found, str):
        return Section(name="changes", title="Since the champion", said=f"It could not be read: {found}")
    return Section(
        name="changes",
        title=f"Since the champion, version {found.version}",
        said=f"{_many(len(found.settings), 'setting')} and {_many(len(found.data), 'fact')} of the data differ.",
        tables=[
            Table(
                caption="Metrics of what ships",
                headings=["metric", "champion, its own test window", "now", "paired, on this test window"],
                rows=_metrics(facts, found),
            ),
            _changed("Settings", found.settings),
            _changed("Data", found.data),
        ],
    )


def _many(number: int, of: str) -> str:
    return f"{number or 'No'} {of}{'' if number == 1 else 's'}"


def _metrics(facts: Facts, found: Changes) -> list[list[str]]:
    paired = (facts.champion or {}).get("difference", {})
    return [
        [name, number(before), number(now), cell(paired[name], signed=True) if name in paired else ""]
        for name, (before, now) in found.metrics.items()
    ]


def _short(text: str | None) -> str:
    """Without what a nested setting leaves at nothing."""
    return "-" if text is None else re.sub(r", '\w+': (None|\[\])", "", text)


def _changed(caption: str, found: list[Change]) -> Table:
    rows = [[one.name, _short(one.before), _short(one.now)] for one in found]
    return Table(caption=caption, headings=["what", "champion", "now"], rows=rows, words=3)

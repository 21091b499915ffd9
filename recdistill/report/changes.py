"""What changed since the champion that a candidate faced, in config, data and metrics, as both runs in MLflow say."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recdistill.config.run import Run
from recdistill.files import read_json
from recdistill.problems import BadInput
from recdistill.promotion.registry import Registry, may_answer_later, open_registry
from recdistill.report.words import moment

_DATA = "data.json"
_SHIPPED = "shipped."
_DIGITS = 12  # of a digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that differs. None: that side does not have it."""

    name: str
    before: str | None
    now: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """settings: by section.field. data: windows, rows, fingerprint. metrics: metric -> what the champion's own run
    measured for it on its own test window, and what this one did."""

    version: int
    settings: list[Change]
    data: list[Change]
    metrics: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Logged:
    settings: dict[str, str]
    data: dict[str, str]
    metrics: dict[str, float]


def since_champion(run: Run, run_id: str, version: int) -> Changes | str:
    """run_id: of the candidate. version: of the champion. Why it cannot be told, where the store does not tell."""
    try:
        registry = open_registry(run)
        before = _logged(registry, str(registry.version(version).run_id))
        now = _logged(registry, run_id)
    except BadInput as error:
        return error.problems[0]
    except Exception as error:
        if not may_answer_later(error):
            raise
        return str(error).splitlines()[0]
    metrics = {name: (value, now.metrics[name]) for name, value in before.metrics.items() if name in now.metrics}
    return Changes(
        version=version,
        settings=changed(before.settings, now.settings),
        data=changed(before.data, now.data),
        metrics=metrics,
    )


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[Change]:
    """What differs between two flat mappings, by name.

    >>> [(c.name, c.before, c.now) for c in changed({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})]
    [('b', '2', '3'), ('c', None, '4')]
    """
    names = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    return [Change(name=name, before=before.get(name), now=now.get(name)) for name in names]


def _logged(registry: Registry, run_id: str) -> _Logged:
    found = registry.client.get_run(run_id)
    with tempfile.TemporaryDirectory() as folder:
        data = read_json(Path(registry.client.download_artifacts(run_id, _DATA, folder)))
    metrics = {name.removeprefix(_SHIPPED): v for name, v in found.data.metrics.items() if name.startswith(_SHIPPED)}
    metrics = {name: value for name, value in metrics.items() if not name.endswith(("_low", "_high"))}
    return _Logged(settings=found.data.params, data=_flat_data(data), metrics=metrics)


def _flat_data(data: Mapping[str, Any]) -> dict[str, str]:
    flat = {name: str(data[name]) for name in ("source", "num_files") if name in data}
    flat |= {name: data[name][:_DIGITS] for name in ("fingerprint", "encoder") if name in data}
    flat |= {f"window {name}": moment(at) for name, at in data.get("windows", {}).items() if name != "embargo"}
    for split in ("train", "valid", "test"):
        flat |= {f"{split} {name}": f"{value:,}" for name, value in data.get(split, {}).items()}
    return flat

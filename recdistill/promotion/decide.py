"""The decide step: the evidence for every gate, gathered, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recdistill.bundle import Bundle, open_bundle
from recdistill.config.run import Run
from recdistill.data.store import open_rows
from recdistill.data.watch.drift import drift_summary
from recdistill.files import read_json, write_json
from recdistill.pairs import against as of_pairs
from recdistill.promotion import against
from recdistill.promotion.boot import boot
from recdistill.promotion.gates import decide_gates
from recdistill.promotion.policy import denied_of
from recdistill.promotion.registry import Registry, open_registry
from recdistill.ship.latency import latency, reference

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

Named = dict[str, str]
REFERENCE = "reference"
_CANDIDATES = 100  # of the request that is timed


def facing(run: Run, inputs: Mapping[str, Path]) -> dict[str, Named | None]:
    """What this candidate is judged against: {"baseline", "reference"}, each {version, bundle_sha256} or None.

    The baseline is the champion, the reference the version under that alias, unless it is the champion. A candidate
    that failed or has reached a stage keeps those that it was judged against, so that a repeated run never compares a
    champion with itself.
    """
    registry = open_registry(run)
    known = registry.find(str(read_json(inputs["export"] / "export.json")["bundle_sha256"]))
    if known is not None and registry.result_stands(known):
        return {name: _judged_by(registry, known.tags.get(name, "")) for name in ("baseline", REFERENCE)}
    champion, frozen = registry.champion(), registry.aliased(REFERENCE)
    if champion is not None and frozen is not None and frozen.version == champion.version:
        frozen = None
    return {"baseline": _named(champion), REFERENCE: _named(frozen)}


def _judged_by(registry: Registry, version: str) -> Named | None:
    return _named(registry.version(int(version))) if version else None


def _named(version: ModelVersion | None) -> Named | None:
    if version is None:
        return None
    return {"version": str(version.version), "bundle_sha256": version.tags.get("bundle_sha256", "")}


def decide(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write decision.json: every gate's verdict, what the champion and the reference differ by, and the whole's."""
    exported = read_json(inputs["export"] / "export.json")
    students = read_json(inputs["distil"] / "students.json")
    teacher = read_json(inputs["train_teacher"] / "teacher.json")
    shipped = open_bundle(inputs["export"] / exported["shipped"], threads=1)
    found = facing(run, inputs)
    evidence = {
        "report": read_json(inputs["evaluate"] / "report.json"),
        "max_difference": exported["max_difference"],
        "parameter_share": students["parameters"] / teacher["parameters"],
        "bytes": exported["bytes"],
        "p99_ratio": None if run.gates.max_p99_ratio is None else _p99_ratio(shipped, inputs),
        "drift": drift_summary(inputs["prepare"]),
        "denied": denied_of(shipped, run.gates.denied),
        "boot": boot(shipped.folder),
        **_opponents(run, inputs, found, out),
    }
    decision = decide_gates(run.gates, evidence).to_json()
    kept = ("parameter_share", "p99_ratio", "champion", REFERENCE)
    about = {name: evidence[name] for name in kept}
    write_json(out / "decision.json", {**decision, **about, "baseline": found["baseline"], "frozen": found[REFERENCE]})


def _opponents(
    run: Run, inputs: Mapping[str, Path], found: Mapping[str, Named | None], out: Path
) -> dict[str, dict[str, Any] | None]:
    registry, champion, frozen = open_registry(run), found["baseline"], found[REFERENCE]
    side = of_pairs if run.data.pairs is not None else against
    return {
        "champion": champion and side.champion(run, inputs, registry, int(champion["version"]), out),
        REFERENCE: frozen and side.reference(run, inputs, registry, int(frozen["version"]), out),
    }


def _p99_ratio(bundle: Bundle, inputs: Mapping[str, Path]) -> float:
    """Of a request of 100 candidates through the graph, over the reference graph's, in turn on one thread."""
    rows = open_rows(inputs["prepare"], "test", bundle.encoder.layout)
    places = np.arange(_CANDIDATES) % len(rows)
    ids, dense = rows.ids(places), rows.dense(places)
    return latency(lambda: bundle.logits(ids, dense), reference(_CANDIDATES)).p99_ratio

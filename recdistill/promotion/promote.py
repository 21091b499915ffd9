"""The publish step: the candidate's run and version in MLflow, and its stage where its gates passed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recdistill.config.run import Run
from recdistill.files import digest, manifest, read_json, write_json
from recdistill.promotion.lineage import LINEAGE, lineage
from recdistill.promotion.registry import open_registry
from recdistill.tracking.record import log_run


def publish(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Log the run, register its bundle once, and promote it if the gates passed. Every part is safe to repeat.

    Superseded where the champion is not the one that it was judged against; run again, it is judged against that.
    """
    registry = open_registry(run)
    decision = read_json(inputs["decide"] / "decision.json")
    key = run_key(inputs)
    run_id, source = log_run(run, registry, inputs, key)
    registry.client.log_dict(run_id, lineage(run, inputs), LINEAGE)
    tags = _tags(run, inputs, decision, key)
    number = int(registry.register(source, run_id, tags).version)
    registry.client.set_tag(run_id, "version", str(number))
    registry.client.set_terminated(run_id)
    if decision["verdict"] == "PASS":
        registry.promote(
            number,
            why=f"all gates passed in run {key[:12]}",
            key=f"promote-{key}",
            to=run.registry.on_pass,
            replacing=int(tags["baseline"]) if tags["baseline"] else None,
        )
    published = {"bundle_sha256": tags["bundle_sha256"], "model": run.model, "version": number, "run_id": run_id}
    write_json(out / "published.json", {**published, "verdict": decision["verdict"]})


def _tags(run: Run, inputs: Mapping[str, Path], decision: Mapping[str, Any], key: str) -> dict[str, str]:
    """A version's: what it is and what it was judged against."""
    data = read_json(inputs["prepare"] / "data.json")
    baseline, frozen = decision["baseline"], decision.get("frozen")
    return {
        "bundle_sha256": read_json(inputs["export"] / "export.json")["bundle_sha256"],
        "verdict": decision["verdict"],
        "run_key": key,
        "baseline": "" if baseline is None else baseline["version"],
        "reference": "" if frozen is None else frozen["version"],
        "fingerprint": data["fingerprint"],
        "window_start": str(data["windows"]["start"]),
        "window_end": str(data["windows"]["end"]),
        "config": digest(run.model_dump(mode="json")),
    }


def run_key(inputs: Mapping[str, Path]) -> str:
    """The identity of a run: the key of its decision, and so of all that led to it."""
    about = manifest(inputs["decide"])
    assert about is not None
    return str(about["key"])


def is_published(run: Run, folder: Path) -> bool:
    """Whether the registry still holds the version that a publish folder says."""
    published = read_json(folder / "published.json")
    version = open_registry(run).find(published["bundle_sha256"])
    return version is not None and int(version.version) == published["version"]

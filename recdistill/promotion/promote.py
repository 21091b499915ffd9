"""The publish step: the candidate's run and version in MLflow, and the alias where its gates passed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recdistill.config.run import Run
from recdistill.files import digest, manifest, read_json, write_json
from recdistill.promotion.registry import open_registry
from recdistill.tracking.record import log_run


def publish(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Log the run, register its bundle once, and move the alias if the gates passed. Every part is safe to repeat."""
    registry = open_registry(run)
    decision = read_json(inputs["decide"] / "decision.json")
    exported = read_json(inputs["export"] / "export.json")
    data = read_json(inputs["prepare"] / "data.json")
    key = run_key(inputs)
    run_id, source = log_run(run, registry, inputs, key)
    facing = decision["baseline"]
    tags = {
        "bundle_sha256": exported["bundle_sha256"],
        "verdict": decision["verdict"],
        "run_key": key,
        "baseline": "" if facing is None else facing["version"],
        "fingerprint": data["fingerprint"],
        "window_start": str(data["windows"]["start"]),
        "window_end": str(data["windows"]["end"]),
        "config": digest(run.model_dump(mode="json")),
    }
    version = registry.register(source, run_id, tags)
    number = int(version.version)
    if decision["verdict"] == "PASS":
        registry.promote(number, why=f"all gates passed in run {key[:12]}", key=f"promote-{key}")
    registry.client.set_tag(run_id, "version", str(number))
    registry.client.set_terminated(run_id)
    write_json(
        out / "published.json",
        {
            "bundle_sha256": exported["bundle_sha256"],
            "model": run.model,
            "version": number,
            "run_id": run_id,
            "verdict": decision["verdict"],
        },
    )


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

"""The decide step: every gate of the candidate, the champion scored on the same rows among them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from recdistill.bundle import Bundle, open_bundle
from recdistill.config.run import Run
from recdistill.data.encoder import Encoder
from recdistill.data.prepare import encode_as, open_checked
from recdistill.data.store import Rows, open_rows
from recdistill.data.watch.drift import drift_summary
from recdistill.evaluate import SCORES, bundle_logits, compare
from recdistill.files import read_json, write_json
from recdistill.problems import BadInput
from recdistill.promotion.gates import decide_gates
from recdistill.promotion.registry import open_registry

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def baseline(run: Run, inputs: Mapping[str, Path]) -> dict[str, str] | None:
    """Which champion this candidate has to face: {version, bundle_sha256}; None where there is none.

    A candidate that is already registered keeps the baseline that it was judged against, so that a repeated run never
    compares a champion with itself.
    """
    registry = open_registry(run)
    known = registry.find(_candidate(inputs))
    if known is not None:
        version = known.tags.get("baseline", "")
        return None if not version else _named(registry.version(int(version)))
    champion = registry.champion()
    return None if champion is None else _named(champion)


def _candidate(inputs: Mapping[str, Path]) -> str:
    return str(read_json(inputs["export"] / "export.json")["bundle_sha256"])


def _named(version: ModelVersion) -> dict[str, str]:
    return {"version": str(version.version), "bundle_sha256": version.tags.get("bundle_sha256", "")}


def decide(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write decision.json: every gate's verdict, the champion's difference, and the whole's."""
    exported = read_json(inputs["export"] / "export.json")
    students = read_json(inputs["distil"] / "students.json")
    teacher = read_json(inputs["train_teacher"] / "teacher.json")
    facing = baseline(run, inputs)
    evidence = {
        "report": read_json(inputs["evaluate"] / "report.json"),
        "max_difference": exported["max_difference"],
        "parameter_share": students["parameters"] / teacher["parameters"],
        "drift": drift_summary(inputs["prepare"]),
        "champion": None if facing is None else _against(run, inputs, int(facing["version"]), out),
    }
    decision = decide_gates(run.gates, evidence).to_json()
    about = {"parameter_share": evidence["parameter_share"], "champion": evidence["champion"]}
    write_json(out / "decision.json", {**decision, **about, "baseline": facing})


def _against(run: Run, inputs: Mapping[str, Path], number: int, out: Path) -> dict[str, Any]:
    """The champion scored on the candidate's test window, its rows encoded by its own encoder."""
    registry = open_registry(run)
    version = registry.version(number)
    rows = open_rows(inputs["prepare"], "test")
    shipped = read_json(inputs["export"] / "export.json")["shipped"]
    try:
        with registry.download(version) as folder:
            bundle = open_bundle(folder, run.threads or 1)
            with tempfile.TemporaryDirectory(dir=out) as scratch:
                theirs = bundle_logits(bundle, _rows_for(run, inputs, bundle, rows, Path(scratch)))
    except BadInput as error:
        return {"version": number, "error": f"champion {number} cannot score this log: {error.problems[0]}"}
    with pa.ipc.open_file(pa.memory_map(str(inputs["evaluate"] / SCORES))) as reader:
        ours = reader.read_all().column(shipped).to_numpy()
    return {
        "version": number,
        "difference": compare(run, rows, ours, theirs, ["auc", "gauc", "ndcg_at_10", "log_loss", "ne", "ece"]),
        "window_end": int(version.tags.get("window_end", "0")),
        "candidate_window_end": read_json(inputs["prepare"] / "data.json")["windows"]["end"],
    }


def _rows_for(run: Run, inputs: Mapping[str, Path], bundle: Bundle, rows: Rows, scratch: Path) -> Rows:
    """The test window as the bundle's encoder sees it, in the order of `rows`."""
    if bundle.encoder.digest == Encoder.open(inputs["prepare"] / "encoder").digest:
        return rows
    encode_as(run, open_checked(run), bundle.encoder, scratch, ("test",))
    theirs = open_rows(scratch, "test")
    assert np.array_equal(theirs["row_id"], rows["row_id"]), "one log gave two orders of rows"
    return theirs

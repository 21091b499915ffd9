"""A version of the registry against the candidate in the shape of pairs: on the candidate's users, by value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from recdistill.config.run import Run
from recdistill.data.encoder import Encoder
from recdistill.files import read_json
from recdistill.metrics.bootstrap import difference, interval
from recdistill.metrics.full_ranking import full_ranking, weighted
from recdistill.pairs.evaluate import PER_USER, bundle_vectors, drawn_for, judged_for
from recdistill.problems import BadInput
from recdistill.promotion.registry import Registry


def champion(run: Run, inputs: Mapping[str, Path], registry: Registry, number: int, out: Path) -> dict[str, Any]:
    """{"version", "difference" (metric -> [value, low, high]), "window_end", "candidate_window_end", "slices"}.

    {"version", "error"} for one that cannot score this log. Users and items that it does not know have the logit 0.
    """
    found = reference(run, inputs, registry, number, out)
    if "error" in found:
        return found
    ends = {
        "window_end": int(registry.version(number).tags.get("window_end", "0")),
        "candidate_window_end": read_json(inputs["prepare"] / "data.json")["windows"]["end"],
    }
    return {**found, **ends, "slices": []}


def reference(run: Run, inputs: Mapping[str, Path], registry: Registry, number: int, out: Path) -> dict[str, Any]:
    """{"version", "difference"} against a version, or {"version", "error"}."""
    judged, encoder = judged_for(run, inputs["prepare"]), Encoder.open(inputs["prepare"] / "encoder")
    try:
        with registry.download(registry.version(number)) as folder:
            theirs = full_ranking(*bundle_vectors(folder, encoder), judged, run.evaluate.at)
    except BadInput as error:
        return {"version": number, "error": f"version {number} cannot score this log: {error.problems[0]}"}
    with pa.ipc.open_file(pa.memory_map(str(inputs["evaluate"] / PER_USER))) as reader:
        table = reader.read_all()
    shipped = read_json(inputs["export"] / "export.json")["shipped"]
    ours = {metric: table.column(f"{shipped}.{metric}").to_numpy() for metric in theirs}
    weights = drawn_for(run, judged).weights
    apart = difference(weighted(ours, weights), weighted(theirs, weights))
    return {"version": number, "difference": {name: interval(values).to_json() for name, values in apart.items()}}

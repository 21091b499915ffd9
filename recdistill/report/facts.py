"""Everything that a finished run's step folders say, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recdistill.bundle import open_bundle
from recdistill.config.run import Run
from recdistill.data.store import open_rows
from recdistill.data.watch.drift import drift_files
from recdistill.evaluate import SCORES
from recdistill.files import read_json
from recdistill.report.changes import Changes, since_champion
from recdistill.report.judged import Judged, open_judged
from recdistill.ship.latency import Latency, latency, reference

NUM_CANDIDATES = 100
"""Of the request whose latency is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A run. The JSON files by the step that wrote them; drift: the lines of drift.parquet, none where there is none.

    judged: None of a run whose evaluation keeps no scores by row, as that of pairs.
    latency: of the student that ships, measured as this was read. changes: since the champion that the candidate
    faced, None where it faced none, or why they cannot be told.
    """

    run: Run
    folders: Mapping[str, Path]
    data: dict[str, Any]
    teacher: dict[str, Any]
    students: dict[str, Any]
    exported: dict[str, Any]
    evaluated: dict[str, Any]
    decision: dict[str, Any]
    published: dict[str, Any]
    drift: list[dict[str, Any]]
    judged: Judged | None
    latency: Latency
    changes: Changes | str | None

    @property
    def metric(self) -> str:
        """The metric of the gates."""
        return str(self.run.gates.metric)

    @property
    def champion(self) -> dict[str, Any] | None:
        """What the decision says of the champion, where it could score this log."""
        found: dict[str, Any] | None = self.decision.get("champion")
        return found if found and "difference" in found else None


def read_facts(run: Run, folders: Mapping[str, Path]) -> Facts:
    """folders: step -> its folder, every step finished."""
    decision = read_json(folders["decide"] / "decision.json")
    published = read_json(folders["publish"] / "published.json")
    exported = read_json(folders["export"] / "export.json")
    faced = decision.get("baseline")
    return Facts(
        run=run,
        folders=folders,
        data=read_json(folders["prepare"] / "data.json"),
        teacher=read_json(folders["train_teacher"] / "teacher.json"),
        students=read_json(folders["distil"] / "students.json"),
        exported=exported,
        evaluated=read_json(folders["evaluate"] / "report.json"),
        decision=decision,
        published=published,
        drift=_drift(folders["prepare"]),
        judged=open_judged(run, folders) if (folders["evaluate"] / SCORES).is_file() else None,
        latency=_latency(folders, exported["shipped"]),
        changes=None if faced is None else since_champion(run, published["run_id"], int(faced["version"])),
    )


def _drift(folder: Path) -> list[dict[str, Any]]:
    tables = [path for path in drift_files(folder) if path.suffix == ".parquet"]
    return [line for path in tables for line in pq.read_table(path, page_checksum_verification=True).to_pylist()]


def _latency(folders: Mapping[str, Path], shipped: str) -> Latency:
    """Of the graph alone, on one thread."""
    bundle = open_bundle(folders["export"] / shipped, threads=1)
    rows = open_rows(folders["prepare"], "test", bundle.encoder.layout)
    place = np.arange(NUM_CANDIDATES) % len(rows)
    ids, dense = rows.ids(place), rows.dense(place)
    return latency(lambda: bundle.logits(ids, dense), reference(NUM_CANDIDATES))

"""One trial: a student of a shape, trained on the cached teacher scores, written as a bundle, judged and timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from recdistill.bundle import open_bundle
from recdistill.config.run import Run
from recdistill.data.encoder import Encoder
from recdistill.data.store import open_rows
from recdistill.models.build import Ranker
from recdistill.ship.cost import shipped
from recdistill.ship.latency import latency, reference
from recdistill.ship.parity import Replayed
from recdistill.ship.quantise import quantise, refuse_not_finite, table_bits
from recdistill.train.students.look_ups import look_ups
from recdistill.train.students.shape import trained_student
from recdistill.train.students.student import fit_student


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """auc, ndcg_at_10: of the bundle's file on the validation window. Times: of one call on one thread."""

    auc: float
    ndcg_at_10: float
    p50_ms: float
    p99_ms: float
    p99_ratio: float
    bytes: int
    graph_bytes: int

    def to_json(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self.__slots__}


def outcome(run: Run, inputs: Mapping[str, Path], encoder: Encoder, replayed: Replayed, candidates: int) -> Outcome:
    """Train one student by the run's recipe and seed and measure what would ship. inputs: folders up to score."""
    student = _student(run, inputs, encoder)
    refuse_not_finite(student, "student")
    small = quantise(student, table_bits(run, student.tables))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "student"
        found = shipped(run, inputs, encoder, small, replayed, folder)
        bundle = open_bundle(folder, threads=1)
        place = np.arange(candidates) % len(replayed.ids)
        ids, dense = replayed.ids[place], replayed.dense[place]
        timed = latency(lambda: bundle.logits(ids, dense), reference(candidates))
    return Outcome(
        auc=found.auc,
        ndcg_at_10=found.ndcg_at_10,
        p50_ms=timed.p50_ms,
        p99_ms=timed.p99_ms,
        p99_ratio=timed.p99_ratio,
        bytes=found.bytes,
        graph_bytes=found.graph_bytes,
    )


def _student(run: Run, inputs: Mapping[str, Path], encoder: Encoder) -> Ranker:
    trained = fit_student(run, inputs, run.recipe, run.seed, arm="student")
    rows = open_rows(inputs["prepare"], "train", encoder.layout)
    counts = look_ups(rows, run.student.counted(encoder.layout.tables))
    return trained_student(run, encoder.layout, counts, trained.weights, run.recipe.student)

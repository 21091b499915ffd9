"""What few bits cost: scores, quality on the validation window and bytes of a student, quantised and in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.bundle import open_bundle
from recdistill.config.run import Run
from recdistill.data.encoder import Encoder
from recdistill.data.store import open_rows
from recdistill.evaluate import bundle_logits, judged_rows
from recdistill.files import read_json
from recdistill.metrics.ranking import auc, ndcg
from recdistill.metrics.rows import Rows
from recdistill.models.build import Ranker
from recdistill.models.tables.make import BITS
from recdistill.problems import BadInput, problem
from recdistill.ship.parity import Replayed, difference, logits_of, replayed_rows
from recdistill.ship.quantise import quantise
from recdistill.ship.write_bundle import bundle_bytes, write_bundle
from recdistill.train.students.student import open_student


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """A student as it would ship. auc, ndcg_at_10: of its ONNX file on the validation window, point values.

    bytes of all files, graph_bytes of student.onnx, encoder_bytes of the vocabularies. difference: from torch.
    """

    auc: float
    ndcg_at_10: float
    bytes: int
    graph_bytes: int
    encoder_bytes: int
    difference: float

    def to_json(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self.__slots__}


def shipped(
    run: Run, inputs: Mapping[str, Path], encoder: Encoder, student: Ranker, replayed: Replayed, folder: Path
) -> Shipped:
    """Write a student's bundle to the folder and judge the file. BadInput where it scores unlike torch."""
    rows = open_rows(inputs["prepare"], "valid", encoder.layout)
    write_bundle(student, inputs["prepare"] / "encoder", encoder, replayed.requests.schema, folder)
    bundle = open_bundle(folder, run.threads or 1)
    found = difference(student, bundle, replayed)
    auc, ndcg = quality(bundle_logits(bundle, rows), judged_rows(run, rows))
    return Shipped(auc=auc, ndcg_at_10=ndcg, difference=found, **bundle_bytes(folder))


def quality(logit: NDArray[np.float32], judged: Rows) -> tuple[float, float]:
    """AUC and NDCG@10 of a window."""
    everyone = np.ones((1, judged.num_users))
    values = logit.astype(np.float64)
    return float(auc(values, judged, everyone)[0]), float(ndcg(values, judged, everyone, k=10)[0])


def cost(
    run: Run, inputs: Mapping[str, Path], encoder: Encoder, whole: Ranker, small: Ranker, replayed: Replayed
) -> dict[str, Any]:
    """Both students as ONNX files: {float, quantised: Shipped as JSON, auc_loss, largest_gap of scores}.

    BadInput where the quantised one keeps too little of AUC or NDCG.
    """
    with TemporaryDirectory() as scratch:
        before = shipped(run, inputs, encoder, whole, replayed, Path(scratch) / "float")
        after = shipped(run, inputs, encoder, small, replayed, Path(scratch) / "quantised")
    refuse_worse(after, before, run.export.least_share)
    one, other = logits_of(whole, replayed), logits_of(small, replayed)
    return {
        "float": before.to_json(),
        "quantised": after.to_json(),
        "auc_loss": 1 - after.auc / before.auc,
        "largest_gap": float(np.abs(one - other).max()),
    }


def refuse_worse(small: Shipped, whole: Shipped, least_share: float) -> None:
    """BadInput for each metric of the quantised that is less than this share of the float one's."""
    lines = [
        problem(
            f"quantised student: {name} on the validation window",
            wanted=f"at least {least_share:.1%} of the float student's {getattr(whole, name):.6f}",
            found=f"{getattr(small, name):.6f}",
            remedy="give more bits by export.quantise or student.tables, or train with aware: true",
        )
        for name in ("auc", "ndcg_at_10")
        if not np.isnan(getattr(whole, name)) and not getattr(small, name) >= least_share * getattr(whole, name)
    ]
    if lines:
        raise BadInput(lines)


def quantised_sizes(run: Run, folders: Mapping[str, Path]) -> dict[str, float]:
    """Of a run's shipped student, post-training: float_bytes, int8_bytes, int8_auc_loss, int4_bytes, int4_auc_loss.

    folders: of the run's steps, prepare and distil among them. *_bytes are those of student.onnx alone;
    encoder_bytes, which no quantising changes, stands beside them. *_auc_loss: 1 - AUC / AUC in float.
    """
    encoder = Encoder.open(folders["prepare"] / "encoder")
    replayed = replayed_rows(run, folders, encoder)
    number = read_json(folders["distil"] / "students.json")["shipped"]
    whole = open_student(run, encoder.layout, folders["distil"], "student", number)
    with TemporaryDirectory() as scratch:
        before = shipped(run, folders, encoder, whole, replayed, Path(scratch) / "float")
        found: dict[str, float] = {"float_bytes": before.graph_bytes, "encoder_bytes": before.encoder_bytes}
        for name, bits in BITS.items():
            small = quantise(whole, dict.fromkeys(whole.tables.names, bits))
            after = shipped(run, folders, encoder, small, replayed, Path(scratch) / name)
            found |= {f"{name}_bytes": after.graph_bytes, f"{name}_auc_loss": 1 - after.auc / before.auc}
    return found

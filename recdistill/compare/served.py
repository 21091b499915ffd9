"""What each arm's student is as a file: its bytes, and how long it takes for a request beside a fixed reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from recdistill.bundle import open_bundle
from recdistill.compare.arms import Arm
from recdistill.config.recipe import Shape
from recdistill.data.encoder import Encoder
from recdistill.data.store import open_rows
from recdistill.files import digest
from recdistill.ship.latency import latency, reference
from recdistill.ship.parity import Replayed, replayed_rows
from recdistill.ship.quantise import quantise, table_bits
from recdistill.ship.write_bundle import bundle_bytes, write_bundle
from recdistill.train.students.look_ups import look_ups
from recdistill.train.students.shape import AS_DESCRIBED, build_student

CANDIDATES = 100


def served(arms: Sequence[Arm], inputs: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """Arm -> {bytes, p99_ms, p99_ratio} of its bundle; once for all arms of one shape, for no weight changes them.

    Times are of one call with 100 candidates on one thread, in the runtime that serves.
    """
    run = arms[0].run
    encoder = Encoder.open(inputs["prepare"] / "encoder")
    replayed = replayed_rows(run, inputs, encoder)
    known: dict[str, dict[str, float]] = {}
    found = {}
    for arm in arms:
        shape = arm.run.recipe.student if arm.kind == "student" else AS_DESCRIBED
        key = digest([arm.run.student.bits, shape.model_dump(mode="json")])
        if key not in known:
            known[key] = _measured(arm, shape, inputs, encoder, replayed)
        found[arm.name] = known[key]
    return found


def _measured(
    arm: Arm, shape: Shape, inputs: Mapping[str, Path], encoder: Encoder, replayed: Replayed
) -> dict[str, float]:
    counts = look_ups(open_rows(inputs["prepare"], "train"), arm.run.student.counted(encoder.layout.tables))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = build_student(arm.run, encoder.layout, counts, shape).eval()
    small = quantise(student, table_bits(arm.run, student.tables))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "student"
        write_bundle(small, inputs["prepare"] / "encoder", encoder, replayed.requests.schema, folder)
        bundle = open_bundle(folder, threads=1)
        place = np.arange(CANDIDATES) % len(replayed.ids)
        ids, dense = replayed.ids[place], replayed.dense[place]
        timed = latency(lambda: bundle.logits(ids, dense), reference(CANDIDATES))
        size = bundle_bytes(folder)["bytes"]
    return {"bytes": size, "p99_ms": timed.p99_ms, "p99_ratio": timed.p99_ratio}

"""The evaluate step of pairs: bundles, teacher and control by full ranking, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recdistill.bundle import open_bundle
from recdistill.config.run import Run
from recdistill.data.encoder import Encoder
from recdistill.evaluate import report_on
from recdistill.files import read_json, write_json
from recdistill.metrics.bootstrap import Bootstrap, bootstrap
from recdistill.metrics.full_ranking import Judged, PerUser, full_ranking, weighted
from recdistill.pairs.judged import judged_users
from recdistill.pairs.lists import open_teacher
from recdistill.pairs.vectors import vectors_for
from recdistill.ship.write_bundle import bundle_name
from recdistill.train.device import ready_process
from recdistill.train.progress import logger
from recdistill.train.students.student import ARMS

PER_USER = "per_user.arrow"


def evaluate(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write report.json and what is behind it (per_user.arrow: a column per model and metric, a row per user)."""
    ready_process(run.threads)
    judged, encoder = judged_for(run, inputs["prepare"]), Encoder.open(inputs["prepare"] / "encoder")
    teacher = open_teacher(inputs["score"], inputs["prepare"])
    found = {"teacher": full_ranking(teacher.user, teacher.item, judged, run.evaluate.at)}
    for arm in ARMS:
        for number in range(run.student.seeds):
            name = bundle_name(arm, number)
            vectors = bundle_vectors(inputs["export"] / name, encoder)
            found[name] = full_ranking(*vectors, judged, run.evaluate.at)
    _write(found, judged, out)
    drawn = drawn_for(run, judged)
    measured = {name: weighted(per_user, drawn.weights) for name, per_user in found.items()}
    report = report_on(run, measured, drawn, read_json(inputs["export"] / "export.json")["shipped"])
    about = {"num_rows": len(judged.relevant[0]), "num_users": len(judged.user), "draws": run.evaluate.draws}
    write_json(out / "report.json", {**about, "seeds": run.student.seeds, **report})
    metric, models = run.gates.metric, report["models"]
    values = [models[name][metric][0] for name in ("teacher", "student", "control")]
    text = "evaluate: %s of teacher %.4f, student %.4f, control %.4f over %s users"
    logger.info(text, metric, *values, f"{len(judged.user):,}")


def judged_for(run: Run, prepared: Path) -> Judged:
    """The users of the test window and what they are judged by."""
    return judged_users(prepared, "test", negatives=run.evaluate.negatives, seed=run.seed)


def drawn_for(run: Run, judged: Judged) -> Bootstrap:
    """Draws of users and of seeds, the same for all models of a run."""
    return bootstrap(len(judged.user), run.evaluate.draws, run.student.seeds, np.random.default_rng([run.seed, 2]))


def bundle_vectors(folder: Path, encoder: Encoder) -> tuple[Tensor, Tensor]:
    """(user, item) vectors of a bundle by the ids of an encoder. BadInput for a bundle that is damaged or has none."""
    user, item = vectors_for(open_bundle(folder).folder, encoder)
    return torch.from_numpy(user), torch.from_numpy(item)


def _write(found: Mapping[str, PerUser], judged: Judged, out: Path) -> None:
    columns = {f"{model}.{metric}": values for model, each in found.items() for metric, values in each.items()}
    table = pa.table({"user": judged.user, **columns})
    with pa.ipc.new_file(out / PER_USER, table.schema) as writer:
        writer.write_table(table)

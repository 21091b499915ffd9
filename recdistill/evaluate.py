"""The evaluate step: bundles, teacher and control on the test window, with paired intervals over users and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.bundle import Bundle, open_bundle
from recdistill.config.run import Run
from recdistill.data.scores import open_scores
from recdistill.data.store import Rows, open_rows
from recdistill.files import read_json, write_json
from recdistill.metrics.bootstrap import Bootstrap, Draws, Interval, bootstrap, difference, interval
from recdistill.metrics.measure import measure
from recdistill.metrics.rows import Floats, numbered
from recdistill.metrics.rows import Rows as Judged
from recdistill.ship.write_bundle import bundle_name
from recdistill.train.progress import logger
from recdistill.train.students.student import ARMS, Arm

ROWS_PER_PASS = 8192
SCORES = "scores.arrow"


def evaluate(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write report.json and the scores behind it (scores.arrow: a column per model, rows as in the store)."""
    rows = open_rows(inputs["prepare"], "test")
    exported = read_json(inputs["export"] / "export.json")
    scores = {"teacher": open_scores(inputs["score"], "test", rows, inputs["prepare"]).logit}
    for arm in ARMS:
        for number in range(run.student.seeds):
            name = bundle_name(arm, number)
            scores[name] = bundle_logits(open_bundle(inputs["export"] / name, run.threads or 1), rows)
    table = pa.table({"row_id": np.asarray(rows["row_id"]), **scores})
    with pa.ipc.new_file(out / SCORES, table.schema) as writer:
        writer.write_table(table)
    judged = judged_rows(run, rows)
    drawn = draws_for(run, judged)
    measured = {
        name: measure(logit.astype(np.float64), judged, drawn.weights, _float64(scores["teacher"]))
        for name, logit in scores.items()
    }
    report = report_on(run, measured, drawn, exported["shipped"])
    about = {
        "num_rows": len(rows),
        "num_users": judged.num_users,
        "draws": run.evaluate.draws,
        "seeds": run.student.seeds,
    }
    write_json(out / "report.json", {**about, **report})
    auc = (
        report["models"]["teacher"]["auc"][0],
        report["models"]["student"]["auc"][0],
        report["models"]["control"]["auc"][0],
    )
    logger.info("evaluate: auc of teacher %.4f, student %.4f, control %.4f on %s rows", *auc, f"{len(rows):,}")


def _float64(values: NDArray[Any]) -> Floats:
    return values.astype(np.float64)


def bundle_logits(bundle: Bundle, rows: Rows) -> NDArray[np.float32]:
    """[N] logits of a window by the bundle, in the order of the store."""
    parts = np.array_split(np.arange(len(rows)), -(-len(rows) // ROWS_PER_PASS))
    return np.concatenate([bundle.logits(rows.ids(part), rows.dense(part)) for part in parts])


def judged_rows(run: Run, rows: Rows) -> Judged:
    """What all models are judged on. NDCG is per request, or per user where the config says so."""
    user = numbered(rows["user"])
    request = user if run.evaluate.ndcg_by == "user" else numbered(rows["request"])
    offset = _float64(rows["offset"])
    return Judged(label=_float64(rows["label"]), user=user, request=request, offset=offset)


def draws_for(run: Run, judged: Judged) -> Bootstrap:
    """The draws of users and seeds behind every interval of a run, the same for all models."""
    return bootstrap(judged.num_users, run.evaluate.draws, run.student.seeds, np.random.default_rng([run.seed, 2]))


def _over_seeds(measured: Mapping[str, Draws], arm: Arm, drawn: Bootstrap) -> Draws:
    return drawn.over_seeds([measured[bundle_name(arm, number)] for number in range(drawn.seeds.shape[1])])


def report_on(run: Run, measured: Mapping[str, Draws], drawn: Bootstrap, shipped: str) -> dict[str, Any]:
    """models, gain, gap and recovery with intervals. measured: teacher and every bundle; shipped: the name of one."""
    models = {
        "teacher": measured["teacher"],
        "student": _over_seeds(measured, "student", drawn),
        "control": _over_seeds(measured, "control", drawn),
        "shipped": measured[shipped],
    }
    gain, gap = (
        difference(models["student"], models["control"]),
        difference(models["teacher"], models["control"]),
    )
    metric = run.gates.metric
    return {
        "models": {name: _intervals(values) for name, values in models.items()},
        "gain": _intervals(gain),
        "gap": _intervals(gap),
        "recovery": recovery(gain[metric], gap[metric]),
    }


def _intervals(draws: Draws) -> dict[str, list[float | None]]:
    return {metric: interval(values).to_json() for metric, values in draws.items()}


def recovery(gain: Floats, gap: Floats) -> list[float | None]:
    """(student - control) / (teacher - control) with its interval: the share of the teacher's lead that was kept.

    Three Nones where the teacher does not lead the control: there is nothing to recover. The ends are percentiles over
    the draws where it does lead.

    >>> recovery(np.array([0.3, 0.2, 0.4]), np.array([0.4, 0.4, 0.5]))[0] == 0.3 / 0.4
    True
    """
    if not gap[0] > 0:
        return [None, None, None]
    share = np.divide(gain, gap, out=np.full(len(gap), np.nan), where=gap > 0)
    found: Interval = interval(share)
    return found.to_json()


def compare(run: Run, rows: Rows, one: NDArray[Any], other: NDArray[Any], names: Sequence[str]) -> dict[str, Any]:
    """Paired difference of two models on the same rows, intervals over users: metric -> [value, low, high]."""
    judged = judged_rows(run, rows)
    weights = draws_for(run, judged).weights
    sides = [measure(_float64(logit), judged, weights) for logit in (one, other)]
    found = _intervals(difference(sides[0], sides[1]))
    return {name: found[name] for name in names}

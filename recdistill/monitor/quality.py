"""Quality over time by delayed labels: every closed window measured once, by slice, and the alarm over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.config.run import Run
from recdistill.config.sections import epoch_us
from recdistill.files import digest, read_json, write_json
from recdistill.metrics.bootstrap import Draws, interval, user_draws
from recdistill.metrics.calibration import log_loss, predicted_over_observed
from recdistill.metrics.ranking import auc, ndcg
from recdistill.metrics.rows import Rows, numbered
from recdistill.monitor.detect import Harm, Step, detect
from recdistill.monitor.scored import (
    LABEL,
    MODEL,
    REQUEST,
    SCORE,
    TIME,
    USER,
    join,
    read_labels,
    read_scored,
    slice_values,
)
from recdistill.problems import BadInput, problem

ALL = "all"
HARM: dict[str, Harm] = {"auc": "down", "ndcg_at_10": "down", "log_calibration": "either"}
"""What the alarm watches. Calibration by its logarithm: half of what comes is as far off as twice of it."""
_LEAST_SHARE = 0.05
_WINDOW = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


def watch_quality(run: Run, scored: Path, labels: Path, until: datetime | None) -> dict[str, Any]:
    """Judge the windows that were closed since the last look, add them to the kept ones, and say where the alarm fires.

    until: the instant up to which labels have come; None takes the latest in the file. Repeated with the same files it
    changes nothing. Returns {windows, new, alarms, repeated, late}: every judged window, oldest first; the starts of
    those that are new; an entry for each time that the alarm fired.
    """
    kept = _kept_in(run)
    windows: list[dict[str, Any]] = read_json(kept) if kept.is_file() else []
    since = epoch_us(datetime.fromisoformat(windows[-1]["end"])) if windows else -(2**62)
    known = read_labels(run, labels)
    joined = join(
        read_scored(run, scored, since), known, run.monitor.delay, 0.0 if run.monitor.unlabelled == "negative" else None
    )
    watched = windows[0]["watched"] if windows else None
    new = []
    for start, rows in _closed(
        run, joined.rows, _watermark(known, labels, until) if until is None else epoch_us(until)
    ):
        watched = _watched(run, rows) if watched is None else watched
        new.append(judge(run, start, rows, watched))
    if new:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, [*windows, *new])
    windows += new
    fired = alarms(run, windows)
    begun = [window["start"] for window in new]
    return {"windows": windows, "new": begun, "alarms": fired, "repeated": joined.repeated, "late": joined.late}


def _kept_in(run: Run) -> Path:
    """The judged windows of these settings; with others they are judged anew, as far as the files go back."""
    about = run.monitor.model_dump(mode="json", include={"key", "window", "delay", "unlabelled", "slices", "min_rows"})
    return Path(run.folder) / "monitor" / f"quality-{digest(about)[:12]}.json"


def _watermark(labels: pa.Table, source: Path, until: datetime | None) -> int:
    if TIME not in labels.schema.names or not len(labels):
        remedy = "say --until when labels are complete, or write the time that each came into the file"
        raise BadInput(problem(str(source), wanted="labels with their times", found="none", remedy=remedy))
    return int(pc.max(labels.column(TIME)).as_py())


def _closed(run: Run, rows: pa.Table, known_until: int) -> Iterator[tuple[int, pa.Table]]:
    """Windows whose labels have all come, oldest first: where each begins in microseconds, and its rows."""
    length, delay = (one // timedelta(microseconds=1) for one in (_WINDOW[run.monitor.window], run.monitor.delay))
    start = rows.column(TIME).to_numpy() // length * length
    for begin in np.unique(start).tolist():
        if begin + length + delay <= known_until:
            yield begin, rows.filter(pa.array(start == begin))


def _watched(run: Run, first: pa.Table) -> list[list[str]]:
    """[column, value] of every slice that the alarm watches, fixed by the first window, so that their number is."""
    found = []
    for name in run.monitor.slices:
        for entry in pc.value_counts(slice_values(first, name)).to_pylist():
            if entry["values"] is not None and entry["counts"] >= _LEAST_SHARE * len(first):
                found.append([name, entry["values"]])
    return sorted(found)


def judge(run: Run, start: int, rows: pa.Table, watched: list[list[str]]) -> dict[str, Any]:
    """One window as JSON: what its rows are, and for all of them, each watched slice and each model the metrics."""
    labelled = rows.filter(pc.is_valid(rows.column(LABEL)))
    slices = {ALL: labelled}
    for name, value in watched:
        slices[f"{name}={value}"] = labelled.filter(pc.equal(slice_values(labelled, name), value))
    for model in sorted(pc.unique(rows.column(MODEL)).to_pylist()):
        slices[f"model={model}"] = labelled.filter(pc.equal(labelled.column(MODEL), model))
    generator = np.random.default_rng([run.seed, start // 3_600_000_000 % 2**32])
    return {
        "start": _iso(start),
        "end": _iso(start + _WINDOW[run.monitor.window] // timedelta(microseconds=1)),
        "rows": len(rows),
        "unlabelled": len(rows) - len(labelled),
        "watched": watched,
        "slices": {name: _measured(run, part, generator) for name, part in slices.items()},
    }


def _iso(at: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).isoformat()


def _measured(run: Run, rows: pa.Table, generator: np.random.Generator) -> dict[str, Any]:
    """rows, positives, metric -> [value, low, high], errors: metric -> standard error; None for what is unknown."""
    label = rows.column(LABEL).to_numpy()
    about = {"rows": len(rows), "positives": int(label.sum())}
    if len(rows) < run.monitor.min_rows or not 0 < label.sum() < len(rows):
        return about | {"metrics": {}, "errors": {}}
    judged = Rows(label=label, user=_numbers(rows, USER), request=_numbers(rows, REQUEST))
    weights = user_draws(judged.num_users, run.monitor.draws, generator)
    logit = rows.column(SCORE).to_numpy()
    ratio = predicted_over_observed(logit, judged, weights)
    with np.errstate(divide="ignore"):
        found: Draws = {
            "auc": auc(logit, judged, weights),
            "ndcg_at_10": ndcg(logit, judged, weights, k=10),
            "log_loss": log_loss(logit, judged, weights),
            "calibration": ratio,
            "log_calibration": np.log(ratio),
        }
    metrics = {name: interval(draws).to_json() for name, draws in found.items()}
    return about | {"metrics": metrics, "errors": {name: _error(found[name]) for name in HARM}}


def _error(draws_B: Any) -> float | None:
    """The standard deviation of the draws that are numbers; None where hardly one is."""
    known = draws_B[1:][np.isfinite(draws_B[1:])]
    return float(known.std()) if len(known) > 2 else None


def _numbers(rows: pa.Table, name: str) -> Any:
    coded = rows.column(name).combine_chunks().dictionary_encode()
    return numbered(coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64))


def series(windows: list[dict[str, Any]]) -> dict[tuple[str, str], list[Step]]:
    """What the alarm watches: (slice, metric) -> a step a window. Their number depends on the first window alone."""
    names = [ALL, *(f"{name}={value}" for name, value in windows[0]["watched"])] if windows else []
    return {(name, metric): [] for name in names for metric in HARM}


def steps_of(run: Run, windows: list[dict[str, Any]]) -> dict[tuple[str, str], list[Step]]:
    """Each series through the detector. All together fire at most once in false_alarm_every windows on average."""
    watched = series(windows)
    threshold = run.monitor.false_alarm_every * len(watched)
    for name, metric in watched:
        slices = [window["slices"].get(name, {}) for window in windows]
        values = [_or_nan(one.get("metrics", {}).get(metric, [None])[0]) for one in slices]
        errors = [_or_nan(one.get("errors", {}).get(metric)) for one in slices]
        watched[name, metric] = detect(values, errors, HARM[metric], threshold)
    return watched


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def alarms(run: Run, windows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each time that a series fired, oldest first: window, slice, metric, value and the mean of the windows before."""
    found = []
    for (name, metric), steps in steps_of(run, windows).items():
        for place, (window, step) in enumerate(zip(windows, steps, strict=True)):
            if step.fires:
                value = window["slices"][name]["metrics"][metric]
                before = _mean_before(windows[:place], name, metric)
                found.append(
                    {"window": window["start"], "slice": name, "metric": metric, "value": value, "before": before}
                )
    return sorted(found, key=lambda one: (one["window"], one["slice"], one["metric"]))


def _mean_before(windows: list[dict[str, Any]], name: str, metric: str) -> float:
    values = [window["slices"].get(name, {}).get("metrics", {}).get(metric, [None])[0] for window in windows]
    return float(np.mean([value for value in values if value is not None]))

"""Drift after promotion: a new window of the log, as the champion sees it, against the one it was trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from recdistill.config.data import Split
from recdistill.config.run import Run
from recdistill.data.encoder import Encoder
from recdistill.data.prepare import encode_as, open_checked
from recdistill.data.store import open_rows
from recdistill.data.watch.drift import drift
from recdistill.files import read_json
from recdistill.problems import BadInput, problem
from recdistill.promotion.registry import open_registry

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_INSTANT = timedelta(seconds=1)


def watch_drift(run: Run, start: datetime, end: datetime) -> dict[str, Any]:
    """Every feature of the log's rows in [start, end) against the champion's train window, by the champion's encoder.

    Returns {champion, trained, rows, users, features}; a feature has psi, psi_noise (of so many users), js, unknown,
    absent, absent_change and `drifted`: psi above monitor.max_psi and its noise, or unknown above monitor.max_unknown.
    BadInput without a champion, where its prepared rows are not here, and for a window without rows.
    """
    version = champion(run)
    trained = prepared_rows(run, version)
    encoder = Encoder.open(trained / "encoder")
    later = window_of(run, start, end)
    with tempfile.TemporaryDirectory(prefix="recdistill-monitor-") as scratch:
        encode_as(later, open_checked(later), encoder, Path(scratch), ("test",))
        windows = {"train": open_rows(trained, "train", encoder.layout), "test": open_rows(Path(scratch), "test")}
        if not len(windows["test"]):
            remedy = "give another --start and --end, or wait for the log"
            where = f"{run.data.source}: {start} to {end}"
            raise BadInput(problem(where, wanted="rows", found="none", remedy=remedy))
        table = drift(windows, np.zeros_like, ["all"], keep_negatives=run.data.keep_negatives)
        num_rows, num_users = len(windows["test"]), len(np.unique(windows["test"]["user"]))
    lines = table.filter(pc.equal(table.column("partition"), "test window")).to_pylist()
    return {
        "champion": int(version.version),
        "trained": trained_window(trained),
        "rows": num_rows,
        "users": num_users,
        "features": [_feature(run, line, num_rows / num_users) for line in lines],
    }


def champion(run: Run) -> ModelVersion:
    """BadInput where there is none."""
    found = open_registry(run).champion()
    if found is None:
        remedy = "promote a version first"
        raise BadInput(problem(run.model, wanted="a champion", found="none", remedy=remedy))
    return found


def prepared_rows(run: Run, version: ModelVersion) -> Path:
    """The prepare folder that a version came from, known by its data. BadInput where it is not on this machine."""
    wanted = [version.tags.get(name, "") for name in ("fingerprint", "window_start", "window_end")]
    for path in sorted(Path(run.folder).rglob("prepare-*/data.json")):
        about = read_json(path)
        if [about["fingerprint"], str(about["windows"]["start"]), str(about["windows"]["end"])] == wanted:
            return path.parent
    remedy = "monitor where it was trained, or prepare its window here with the log as it was"
    where = f"{run.folder}: rows of version {version.version}"
    raise BadInput(problem(where, wanted="its prepare folder", found="none", remedy=remedy))


def trained_window(folder: Path) -> list[str]:
    """Where a prepare folder's train window begins and where its whole data ends."""
    windows = read_json(folder / "data.json")["windows"]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [(epoch + timedelta(microseconds=windows[name])).isoformat() for name in ("start", "end")]


def window_of(run: Run, start: datetime, end: datetime) -> Run:
    """The run with [start, end) as its test window, all that comes before as its past, and a folder of its own."""
    split = Split(valid_from=start - _INSTANT, test_from=start, until=end)
    data = run.data.model_copy(update={"split": split, "end": end, "manifest": None})
    root = str(Path(run.folder) / "monitor" / "work")
    return run.model_copy(update={"data": data, "root": root})


def _feature(run: Run, line: dict[str, Any], alike: float) -> dict[str, Any]:
    """alike: rows of a user, which in the worst case all say the same, so that there is so much more noise."""
    unknown, noise = line["unknown"] or 0.0, (line["psi_noise"] or 0.0) * alike
    far = line["psi"] is not None and line["psi"] > run.monitor.max_psi + noise
    kept: Sequence[str] = ("feature", "psi", "js", "unknown", "absent", "absent_change")
    return {name: line[name] for name in kept} | {
        "psi_noise": noise,
        "drifted": far or unknown > run.monitor.max_unknown,
    }

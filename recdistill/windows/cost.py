"""What a warm start costs: the student that went on from the run before, against the one trained from fresh weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recdistill.config.run import Run
from recdistill.data.store import open_rows
from recdistill.evaluate import SCORES, compare
from recdistill.files import read_json
from recdistill.metrics.measure import HIGHER_IS_BETTER

Folders = Mapping[str, Path]


def warm_start_cost(run: Run, full: Folders, warm: Folders) -> dict[str, Any]:
    """warm and full: metric -> [value, low, high] of what each run would ship; cost: warm - full of the same rows, by
    paired bootstrap over users; rows: how many each learned from.

    Both ran on one window: full trained on all of it, warm on what its base had not seen. run: the full one's settings.
    """
    rows = open_rows(full["prepare"], "test")
    other = open_rows(warm["prepare"], "test")
    assert np.array_equal(rows["row_id"], other["row_id"])
    reports = {name: read_json(of["evaluate"] / "report.json") for name, of in (("warm", warm), ("full", full))}
    metrics = [name for name in HIGHER_IS_BETTER if not name.startswith("teacher_")]
    return {
        **{name: report["models"]["shipped"] for name, report in reports.items()},
        "cost": compare(run, rows, _shipped(warm), _shipped(full), metrics),
        "rows": {name: _train_rows(of) for name, of in (("warm", warm), ("full", full))},
    }


def _shipped(folders: Folders) -> Any:
    name = read_json(folders["export"] / "export.json")["shipped"]
    with pa.ipc.open_file(pa.memory_map(str(folders["evaluate"] / SCORES))) as reader:
        return reader.read_all()[name].to_numpy()


def _train_rows(folders: Folders) -> int:
    return int(read_json(folders["prepare"] / "data.json")["train"]["rows"])

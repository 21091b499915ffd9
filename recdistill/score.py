"""The score step: the teacher's logits of every window in Arrow, keyed by row_id, with whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.config import Run
from recdistill.data.split import SPLITS
from recdistill.data.store import Rows, open_rows
from recdistill.files import manifest, read_json
from recdistill.problems import BadInput, problem
from recdistill.train.device import choose_device, pin_threads
from recdistill.train.predict import predict
from recdistill.train.progress import logger
from recdistill.train.teacher import open_teacher


def score(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write SPLIT.arrow for every window: row_id int64, logit float32; metadata: teacher, data and encoder digests."""
    pin_threads(run.threads)
    about = _about(inputs)
    windows = {name: open_rows(inputs["prepare"], name) for name in SPLITS}
    with open_teacher(run, windows["train"].layout, inputs["train_teacher"]) as teacher:
        for name, rows in windows.items():
            logit = predict(teacher, rows, choose_device(run.device))
            if not np.isfinite(logit).all():
                found = f"{int((~np.isfinite(logit)).sum())} that are not"
                remedy = "lower the teacher's learning rates"
                raise BadInput(problem(f"teacher: {name} window", wanted="finite scores", found=found, remedy=remedy))
            table = pa.table({"row_id": np.asarray(rows["row_id"]), "logit": logit})
            schema = table.schema.with_metadata(about)
            with pa.ipc.new_file(out / f"{name}.arrow", schema) as writer:
                writer.write_table(table.cast(schema))
    logger.info("score: %s rows of the teacher's scores stored", f"{sum(map(len, windows.values())):,}")


def _about(inputs: Mapping[str, Path]) -> dict[str, str]:
    data = read_json(inputs["prepare"] / "data.json")
    teacher = manifest(inputs["train_teacher"])
    assert teacher is not None
    return {"teacher": teacher["key"], "fingerprint": data["fingerprint"], "encoder": data["encoder"]}


def open_scores(folder: Path, name: str, rows: Rows, prepared: Path) -> NDArray[np.float32]:
    """[N] stored logits in the order of the store's rows.

    BadInput for scores of other data or another encoder, and for rows without a score.
    """
    path = folder / f"{name}.arrow"
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        table = reader.read_all()
    data = read_json(prepared / "data.json")
    found = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    for key in ("fingerprint", "encoder"):
        if found.get(key) != data[key]:
            remedy = "score again"
            raise BadInput(
                problem(f"{path}: {key}", wanted=data[key][:12], found=str(found.get(key))[:12], remedy=remedy)
            )
    row_id = table.column("row_id").to_numpy()
    logit: NDArray[np.float32] = table.column("logit").to_numpy()
    if np.array_equal(row_id, rows["row_id"]):
        return logit
    order = np.argsort(row_id)
    place = np.minimum(np.searchsorted(row_id, rows["row_id"], sorter=order), len(row_id) - 1)
    missing = int((row_id[order[place]] != rows["row_id"]).sum())
    if missing:
        raise BadInput(
            problem(str(path), wanted="a score of every row", found=f"{missing} without", remedy="score again")
        )
    return logit[order[place]]

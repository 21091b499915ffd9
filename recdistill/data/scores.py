"""The score store beside the rows: a teacher's logits in Arrow, keyed by row_id, with whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.data.store import Rows
from recdistill.files import read_json
from recdistill.problems import BadInput, problem


def write_scores(path: Path, rows: Rows, logit: NDArray[np.float32], about: Mapping[str, str]) -> None:
    """Write row_id int64 and logit float32 in the order of the store, `about` as the file's metadata."""
    table = pa.table({"row_id": np.asarray(rows["row_id"]), "logit": logit})
    schema = table.schema.with_metadata(dict(about))
    with pa.ipc.new_file(path, schema) as writer:
        writer.write_table(table.cast(schema))


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

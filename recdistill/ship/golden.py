"""Golden requests: raw rows with the scores that they must get, kept in the bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.problems import BadInput, problem

GOLDEN = "golden.arrow"
SCORE = "score"  # beside the request's columns
MAX_DIFFERENCE = 1e-4


def write_golden(requests: pa.Table, scores: NDArray[np.float32], folder: Path) -> None:
    """Raw rows and the logits that they must get. scores: [n]."""
    assert SCORE not in requests.schema.names
    table = requests.append_column(SCORE, pa.array(scores, pa.float32()))
    with pa.ipc.new_file(folder / GOLDEN, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def read_golden(folder: Path) -> tuple[pa.Table, NDArray[np.float32]]:
    """(raw rows, [n] logits that they must get). BadInput for a bundle that has none."""
    path = folder / GOLDEN
    if not path.is_file():
        remedy = "export the run again with this version"
        raise BadInput(problem(str(path), wanted="golden requests", found="none", remedy=remedy))
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        table = reader.read_all()
    return table.drop_columns([SCORE]), table.column(SCORE).to_numpy()


def compare_golden(found: NDArray[np.float32], wanted: NDArray[np.float32], where: str) -> float:
    """The largest difference. BadInput where it is over the bound, or not a number."""
    largest = float(np.abs(found - wanted).max())
    if not largest <= MAX_DIFFERENCE:
        row = int(np.argmax(np.nan_to_num(np.abs(found - wanted), nan=np.inf)))
        remedy = "do not serve it: fetch the bundle again, or export it on this kind of machine"
        wanted_here = f"{wanted[row]:.6f} within {MAX_DIFFERENCE:g}"
        raise BadInput(
            problem(f"{where}: golden request {row}", wanted=wanted_here, found=f"{found[row]:.6f}", remedy=remedy)
        )
    return largest

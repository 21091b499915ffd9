"""The vectors of users and items as a bundle's Parquet files have them, a row each; read without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recdistill.bundle import OF_ITEMS, OF_USERS
from recdistill.problems import BadInput, problem

FILES = (OF_USERS, OF_ITEMS)
VECTOR = "vector"


def read_side(folder: Path, name: str) -> tuple[str, pa.Array, NDArray[np.float32]]:
    """(the column, its values [n], their vectors [n, E]) of user_vectors.parquet or item_vectors.parquet.

    BadInput for a bundle that has none.
    """
    path = folder / name
    if not path.is_file():
        remedy = "export a run with data.pairs"
        raise BadInput(problem(str(path), wanted="vectors", found="none", remedy=remedy))
    table = pq.read_table(path, page_checksum_verification=True)
    vector = table.column(VECTOR).combine_chunks()
    flat = vector.flatten().to_numpy(zero_copy_only=False).reshape(len(vector), -1)
    return table.schema.names[0], table.column(0).combine_chunks(), flat

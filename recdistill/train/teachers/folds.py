"""Out-of-fold teachers: which part of the train window a row belongs to, and the teacher that did not see it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recdistill.config.teacher import Folds
from recdistill.data.store import Rows
from recdistill.data.tables import splitmix

Ints = NDArray[np.int64]
OUT_OF_FOLD = "train-out-of-fold"
"""The store of the train window's out-of-fold scores."""


def fold_of(rows: Rows, folds: Folds) -> Ints:
    """[N] the part of each row of the train window, from 0 on.

    By user it is a hash of the user; by time the parts follow one another and are as large as one another, up to a row.
    """
    if folds.by == "user":
        return (splitmix(rows["user"].astype(np.uint64)) % np.uint64(folds.count)).astype(np.int64)
    place = np.empty(len(rows), dtype=np.int64)
    place[np.argsort(rows["time"], kind="stable")] = np.arange(len(rows))
    return place * folds.count // max(len(rows), 1)


def fold_name(fold: int) -> str:
    """The weights of the teacher that did not see this part."""
    return f"fold-{fold}.safetensors"

"""How often the train window's rows look up each id of a table: what mixed dimensions and pruning go by."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from recdistill.data.store import Rows

_CHUNK = 65_536


def look_ups(rows: Rows, names: Collection[str]) -> dict[str, Tensor]:
    """Table -> [V] int64 look-ups of each id by all rows, their histories included. Reads nothing for no names."""
    features = [feature for feature in rows.layout.ids if feature.table in names]
    counts = {f.table: np.zeros(f.num_rows, dtype=np.int64) for f in features}
    for start in range(0, len(rows) if features else 0, _CHUNK):
        ids = rows.ids(np.arange(start, min(start + _CHUNK, len(rows))))
        for feature in features:
            counts[feature.table] += np.bincount(ids[:, feature.columns].reshape(-1), minlength=feature.num_rows)
    return {name: torch.from_numpy(count) for name, count in counts.items()}

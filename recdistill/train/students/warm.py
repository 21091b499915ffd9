"""A student that begins with the weights of an earlier one, its tables' rows matched by the values they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.data.encoder import Encoder
from recdistill.models.build import Ranker
from recdistill.models.tables.hashed import Hashed
from recdistill.models.tables.rows import AwareRows
from recdistill.problems import BadInput, problem
from recdistill.train.predict import load_weights
from recdistill.train.teachers.warm import ENCODER, Rows, same_rows

_TABLES = "tables."


def begin_as_earlier(student: Ranker, encoder: Encoder, folder: Path, name: str) -> None:
    """Overwrite the weights by those of the file `name` in a distil folder. encoder: of the student's own rows.

    A row whose value the earlier vocabulary did not hold keeps what it has. A hashed table is taken whole where old
    values kept their numbers (features.grow_from); tables by frequency or by quotient stay as they are. BadInput where
    other layers differ, with a line for each.
    """
    weights = load_weights(folder, name)
    earlier = Encoder.open(folder / ENCODER)
    own = {key: value for key, value in student.state_dict().items() if not key.startswith(_TABLES)}
    lines = [
        problem(
            f"student.warm_start {folder / name}: {key}",
            wanted=f"a weight of shape {tuple(value.shape)}",
            found="none" if key not in weights else str(tuple(weights[key].shape)),
            remedy="warm-start a student of the same layers and features, or drop it",
        )
        for key, value in own.items()
        if key not in weights or weights[key].shape != value.shape
    ]
    if lines:
        raise BadInput(lines)
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(weights[key])
        for table, part in student.tables.names.items():
            rows = same_rows(encoder.tables[table], earlier.tables.get(table))
            _fill(student.tables[table], rows, weights, f"{_TABLES}parts.{part}.")


def _fill(table: nn.Module, rows: Rows, weights: Mapping[str, Tensor], prefix: str) -> None:
    """rows: [V] the earlier row of each id; -1 where it had none."""
    inner = table.rows if isinstance(table, AwareRows | Hashed) else table
    inner = inner.rows if isinstance(inner, AwareRows) else inner
    names = [name for name, parameter in table.named_parameters() if isinstance(inner, nn.Embedding)]
    held = weights.get(f"{prefix}{names[0]}") if len(names) == 1 else None
    if not isinstance(inner, nn.Embedding) or held is None or held.shape[1] != inner.embedding_dim:
        return
    if isinstance(table, Hashed):
        stayed = (rows < 0) | (rows == np.arange(len(rows)))
        if stayed.all() and held.shape == inner.weight.shape:
            inner.weight.copy_(held)
        return
    known = torch.from_numpy(np.flatnonzero(rows >= 0))
    inner.weight[known] = held[torch.from_numpy(rows)[known]]

"""A teacher that begins with the weights of an earlier one, its tables' rows matched by the values they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recdistill.config.run import Run
from recdistill.data.encoder import Encoder
from recdistill.data.tables import Table, Vocabulary
from recdistill.files import digest, manifest
from recdistill.problems import BadInput, problem
from recdistill.train.engine.pieces import Piece, pieces
from recdistill.train.predict import load_weights, weights_name
from recdistill.train.progress import logger
from recdistill.types import ABSENT, FIRST_KNOWN, OOV

ENCODER = "encoder"
_BLOCK = 1 << 18  # rows
Rows = NDArray[np.int64]


def begun_from(run: Run, inputs: Mapping[str, Path]) -> Any:
    """What a training depends on through teacher.warm_start: a digest of that folder; None where there is none."""
    return None if run.teacher.warm_start is None else folder_digest(Path(run.teacher.warm_start))


def folder_digest(folder: Path, step: str = "train_teacher", setting: str = "teacher.warm_start") -> str:
    """Of the bytes of a finished folder of a step, which `setting` names. BadInput where it is none."""
    about = manifest(folder)
    if about is None or about.get("step") != step or not (folder / ENCODER).is_dir():
        found = "no manifest" if about is None else f"one of step {about.get('step')}"
        remedy = f"give runs/NAME/{step}-KEY"
        raise BadInput(problem(f"{setting}: {folder}", wanted=f"a finished {step} folder", found=found, remedy=remedy))
    return digest(about["files"])


def warm_start(model: nn.Module, encoder: Encoder, folder: Path, number: int = 0) -> None:
    """Overwrite the weights of a sharded model by those of a train_teacher folder, each rank its own parts.

    A row whose value the earlier vocabulary did not hold keeps its fresh weights; so does a whole table that is hashed
    or binned differently now. encoder: of the new model's rows. number: which member; member 0 where there is none.
    BadInput where layers or widths differ, with a line for each.
    """
    folder_digest(folder)
    earlier = Encoder.open(folder / ENCODER)
    name = weights_name(number) if (folder / weights_name(number)).is_file() else weights_name(0)
    weights = load_weights(folder, name)
    lines: list[str] = []
    for piece in pieces(model.state_dict()):
        held = weights.get(_by_table(weights).get(table_of(piece.name) or "", piece.name))
        table = table_of(piece.name)
        if table is not None and held is not None and held.shape[1] == piece.whole[1]:
            rows = same_rows(encoder.tables[table], earlier.tables.get(table))
            _copy_rows(piece, held, rows)
            if piece.offset == (0, 0):
                logger.info("table %s: %d of %d rows known from %s", table, (rows >= 0).sum(), len(rows), folder)
        elif table is None and held is not None and held.shape == piece.whole:
            piece.tensor.copy_(held)
        elif table is None or held is not None:
            found = "none" if held is None else str(tuple(held.shape))
            where, remedy = f"{folder / name}: {piece.name}", "warm-start a teacher of the same layers and features"
            lines.append(problem(where, wanted=f"a weight of shape {piece.whole}", found=found, remedy=remedy))
    if lines:
        raise BadInput(lines)


def table_of(name: str) -> str | None:
    """The table that a weight is; None of all other weights."""
    *_, kind, table, _ = ["", "", *name.split(".")]
    return table if kind in ("embedding_bags", "embeddings") else None


def _by_table(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Table -> the name of its weight: it is another one where a table came to be shared with a history."""
    return {table: name for name in weights if (table := table_of(name)) is not None}


def same_rows(table: Table, earlier: Table | None) -> Rows:
    """[rows of table] the earlier table's row of the same value; -1 where it had none.

    >>> import pyarrow as pa
    >>> old = Vocabulary(name="country", values=pa.array(["at", "be"]))
    >>> same_rows(Vocabulary(name="country", values=pa.array(["be", "ch", "at"])), old).tolist()
    [0, 1, 3, -1, 2]
    """
    if isinstance(table, Vocabulary) and isinstance(earlier, Vocabulary):
        found = earlier.ids(table.values).astype(np.int64)
        return np.concatenate([[ABSENT, OOV], np.where(found < FIRST_KNOWN, -1, found)]).astype(np.int64)
    alike = earlier is not None and type(table) is type(earlier) and table.digest == earlier.digest
    return np.arange(table.num_rows) if alike else np.full(table.num_rows, -1)


def _copy_rows(piece: Piece, held: Tensor, rows: Rows) -> None:
    first, left = piece.offset
    columns = slice(left, left + piece.tensor.shape[1])
    for start in range(0, len(piece.tensor), _BLOCK):
        source = rows[first + start : first + min(start + _BLOCK, len(piece.tensor))]
        known = torch.from_numpy(np.flatnonzero(source >= 0))
        new = held[torch.from_numpy(source)[known]][:, columns]
        piece.tensor[start + known.to(piece.tensor.device)] = new.to(piece.tensor.device)

"""What a two-tower student leaves for a vector index: a graph per side, and the vector of every item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from recdistill.bundle import ITEM_GRAPH, ITEM_VECTORS, USER_GRAPH
from recdistill.data.encoder import Encoder
from recdistill.data.store import Rows
from recdistill.data.tables import Vocabulary
from recdistill.models.two_tower import TwoTowerModel
from recdistill.ship.onnx_graph import Reading, write_graph
from recdistill.types import FIRST_KNOWN, IdFeature

_CHUNK = 8192


def write_vectors(student: TwoTowerModel, encoder: Encoder, rows: Rows, folder: Path) -> None:
    """user.onnx, item.onnx (ids, dense -> vector [rows, H]) and item_vectors.arrow (id, item, vector).

    rows: of the train window; an item's features are those of its last row there. item: its value in the log, null
    where the encoder hashes it. dot(user, item) + the student's bias is the logit.
    """
    layout = encoder.layout
    write_graph(Reading(student, student.user_vector), layout, folder / USER_GRAPH, "vector")
    write_graph(Reading(student, student.item_vector), layout, folder / ITEM_GRAPH, "vector")
    item = layout.target or next(feature for feature in student.item.features if feature.kind == "single")
    place = _last_rows(rows, item)
    vectors = []
    with torch.inference_mode():
        for part in np.array_split(place, max(1, -(-len(place) // _CHUNK))):
            found = student.item_vector(torch.from_numpy(rows.ids(part)), torch.from_numpy(rows.dense(part)))
            vectors.append(found.numpy())
    flat = np.concatenate(vectors)
    ids = rows.ids(place)[:, item.start]
    table = pa.table(
        {
            "id": ids,
            "item": _values(encoder, item, ids),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1]),
        }
    )
    with pa.ipc.new_file(folder / ITEM_VECTORS, table.schema) as writer:
        writer.write_table(table)


def _last_rows(rows: Rows, item: IdFeature) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Place of the last row in time of each known item, by ascending id."""
    ids = rows["ids"][:, item.start]
    order = np.lexsort((rows["time"], ids))
    last = np.r_[np.flatnonzero(np.diff(ids[order])), len(ids) - 1]
    place = order[last]
    return place[ids[place] >= FIRST_KNOWN]


def _values(encoder: Encoder, item: IdFeature, ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Array:
    table = encoder.tables[item.table]
    if not isinstance(table, Vocabulary):
        return pa.nulls(len(ids))
    return table.values.take(pa.array(ids - FIRST_KNOWN))

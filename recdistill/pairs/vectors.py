"""The vectors of users and items as Parquet files of a bundle, a row each, for whatever searches among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recdistill.data.encoder import Encoder
from recdistill.data.tables import Vocabulary
from recdistill.pairs.models import MatrixFactorisation
from recdistill.pairs.sides import FILES, VECTOR, read_side
from recdistill.problems import BadInput, problem
from recdistill.types import FIRST_KNOWN, IdFeature


def write_vectors(model: MatrixFactorisation, encoder: Encoder, folder: Path) -> None:
    """user_vectors.parquet and item_vectors.parquet: the log's own value under its column's name, and `vector`."""
    for feature, table, name in zip(encoder.layout.ids, (model.user, model.item), FILES, strict=True):
        known = table.detach()[FIRST_KNOWN:].numpy()
        vector = pa.FixedSizeListArray.from_arrays(pa.array(known.reshape(-1)), known.shape[1])
        columns = {feature.name: values_of(encoder, feature), VECTOR: vector}
        pq.write_table(pa.table(columns), folder / name, write_page_checksum=True)


def values_of(encoder: Encoder, feature: IdFeature) -> pa.Array:
    """The values that a side knows, by id from 2 on."""
    table = encoder.tables[feature.table]
    assert isinstance(table, Vocabulary)
    return table.values


def vectors_for(folder: Path, encoder: Encoder) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(user, item) vectors of a bundle by the ids of another encoder; zeros for whom the bundle does not know.

    BadInput where its values are of another type.
    """
    found = []
    for feature, name in zip(encoder.layout.ids, FILES, strict=True):
        _, theirs, vectors = read_side(folder, name)
        ours = values_of(encoder, feature)
        if theirs.type != ours.type:
            wanted, remedy = f"{feature.name} of type {ours.type}", "score it on a log of its own kind"
            raise BadInput(problem(str(folder / name), wanted=wanted, found=str(theirs.type), remedy=remedy))
        place = pc.fill_null(pc.index_in(ours, value_set=theirs), -1).to_numpy()
        rows = np.zeros((feature.num_rows, vectors.shape[1]), dtype=np.float32)
        rows[FIRST_KNOWN:][place >= 0] = vectors[place[place >= 0]]
        found.append(rows)
    return found[0], found[1]

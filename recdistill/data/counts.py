"""How often each value of a table came, over the segments of a train window, and the vocabulary that makes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.data.tables import Vocabulary

Ints = NDArray[np.int64]


class Counts:
    """How often each value of a table came, values numbered in the order in which they first came."""

    def __init__(self) -> None:
        self.known: pa.Array | None = None
        self.index = pd.Index([], dtype="int64")
        self.counts = np.zeros(0, dtype=np.int64)

    def add(self, values: pa.Array, counts: Ints) -> None:
        """[d] different plain values and how often each came."""
        seen = counts > 0
        values, counts = values.filter(pa.array(seen)), counts[seen]
        if not len(values):
            return
        if self.known is None:
            self.known = values.slice(0, 0)
        places, new = self._number(values)
        if len(new):
            self.known = pa.concat_arrays([self.known, new])
            self.counts = np.concatenate([self.counts, np.zeros(len(new), dtype=np.int64)])
        self.counts[places] += counts

    def _number(self, values: pa.Array) -> tuple[Ints, pa.Array]:
        """Each value's number, and the values that had none before."""
        if pt.is_int64(values.type):  # pandas keeps the hash table for as long as nothing new comes
            plain = values.to_numpy(zero_copy_only=False)
            places = self.index.get_indexer(plain)
            fresh = plain[places < 0]
            places[places < 0] = np.arange(len(fresh)) + len(self.index)
            if len(fresh):
                self.index = pd.Index(np.concatenate([self.index.to_numpy(), fresh]))
            return places, pa.array(fresh)
        known = self.known
        assert known is not None
        together = pa.concat_arrays([known, values]).dictionary_encode()
        codes = together.indices.slice(len(known)).to_numpy(zero_copy_only=False).astype(np.int64)
        return codes, together.dictionary.slice(len(known))

    def vocabulary(self, name: str, min_count: int, max_rows: int | None, before: pa.Array | None) -> Vocabulary:
        """Values that came often enough, ascending: the order of rows never matters. Those of `before` come first."""
        known = pa.array([], pa.int64()) if self.known is None else self.known
        often = self.counts >= min_count
        if before is not None:
            often &= ~pc.is_in(known, value_set=before).to_numpy(zero_copy_only=False)
        kept, counts = known.filter(pa.array(often)), self.counts[often]
        order = pc.array_sort_indices(kept).to_numpy(zero_copy_only=False)
        if max_rows is not None:
            room = max(0, max_rows - (0 if before is None else len(before)))
            most = np.argsort(-counts[order], kind="stable")[:room]
            order = order[np.sort(most)]
        values = kept.take(pa.array(order))
        return Vocabulary(name=name, values=values if before is None else pa.concat_arrays([before, values]))

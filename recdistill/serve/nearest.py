"""The items whose vectors give a user the highest logits: by looking at all of them, or by a vector index."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.bundle import OF_ITEMS, OF_USERS
from recdistill.data.tables import Vocabulary
from recdistill.pairs.sides import read_side
from recdistill.problems import BadInput, problem
from recdistill.types import FIRST_KNOWN, OOV

Floats = NDArray[np.float32]
By = Literal["exact", "index"]
_LINKS, _EFFORT = 32, 256  # of the index: neighbours of an item, and items looked at in a search


class Nearest:
    """The users and items of a bundle of pairs. Any number of threads may search at once."""

    def __init__(self, folder: Path) -> None:
        """BadInput for a bundle without vectors."""
        user, users, self.user_vectors = read_side(folder, OF_USERS)
        item, self.items, self.vectors = read_side(folder, OF_ITEMS)
        self.users, self.known = Vocabulary(name=user, values=users), Vocabulary(name=item, values=self.items)

    def top(self, k: int, user: Any, *, by: By = "exact", without: Sequence[Any] = ()) -> tuple[pa.Array, Floats]:
        """([k] items, [k] logits), best first, of all items but those in `without`; fewer where there are not so many.

        BadInput for a user that the bundle does not know: nothing can be said for it. exact: all items are looked at.
        index: a graph of items is followed (HNSW, by faiss), which may miss some.
        """
        vector = self.user_vectors[self._line(user)]
        seen = self.known.ids(pa.array(without, self.items.type)) - FIRST_KNOWN if without else np.zeros(0, np.int32)
        seen = seen[seen >= 0]
        place, logit = self._exact(vector, k + len(seen)) if by == "exact" else self._by_index(vector, k + len(seen))
        kept = ~np.isin(place, seen)
        return self.items.take(pa.array(place[kept][:k])), logit[kept][:k]

    def _line(self, user: Any) -> int:
        place = int(self.users.ids(pa.array([user]))[0])
        if place <= OOV:
            remedy = "rank it by popularity, or train again"
            raise BadInput(
                problem(self.users.name, wanted="a user of the train window", found=repr(user), remedy=remedy)
            )
        return place - FIRST_KNOWN

    def _exact(self, vector: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
        logit = self.vectors @ vector
        k = min(k, len(logit))
        first = np.argpartition(-logit, k - 1)[:k] if k else np.zeros(0, dtype=np.int64)
        place = first[np.lexsort((first, -logit[first]))]
        return place, logit[place]

    def _by_index(self, vector: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
        logit, place = self._index.search(vector[None], min(k, len(self.items)))
        found = place[0] >= 0
        return place[0][found], logit[0][found]

    @cached_property
    def _index(self) -> Any:
        """Built when it is first asked for. BadInput where the library is not installed."""
        try:
            import faiss
        except ImportError:
            remedy = 'pip install "recdistill[index]", or use by="exact"'
            raise BadInput(problem("by", wanted="faiss beside index", found="none", remedy=remedy)) from None
        index = faiss.IndexHNSWFlat(self.vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efSearch = _EFFORT
        index.add(np.ascontiguousarray(self.vectors))
        return index

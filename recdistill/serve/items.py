"""The items that a scorer knows by their key: their columns, their ids and numbers, and where each of them is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recdistill.data.encoder import Encoder
from recdistill.data.log.values import plain_ids
from recdistill.data.tables import Vocabulary
from recdistill.problems import BadInput, problem
from recdistill.serve.lookup import Ids, lookup
from recdistill.types import OOV

Matrices = dict[str, NDArray[Any]]


class Keyed:
    """A table with one row a key, and after them a row of nulls for keys that it does not hold."""

    def __init__(self, key: str, table: pa.Table) -> None:
        self.key, self.table = key, table
        self.unknown = table.num_rows - 1
        keys = plain_ids(table.column(key).combine_chunks()).slice(0, self.unknown)
        places = np.arange(self.unknown, dtype=np.int64)
        self.lookup = lookup(keys, places, unknown=self.unknown, absent=self.unknown)
        self._columns = {name: table.column(name).combine_chunks() for name in table.schema.names}

    @property
    def names(self) -> list[str]:
        """Its columns, the key among them."""
        return list(self._columns)

    def places(self, keys: Any) -> Ids:
        """[C] rows of the table. BadInput for keys of another type."""
        return self.lookup.many(self.key, keys)

    def column(self, name: str, places: Ids) -> pa.Array:
        """What it says of some keys."""
        return self._columns[name].take(pa.array(places))

    def value(self, name: str, key: Any) -> Any:
        """What it says of one key; None where it does not know it."""
        return self._columns[name][self.lookup.one(self.key, key)].as_py()


class Items:
    """The items, with what they are in the two matrices.

    features, numbers: what follows from the item alone. exact: whether an unknown key's features are those of the
    unknown item; they are not where the key itself is hashed.
    """

    def __init__(self, encoder: Encoder, known: Keyed) -> None:
        self.encoder, self.known, self.key = encoder, known, known.key
        names, privileged = set(known.names), encoder.features.privileged
        self.features = [
            f for f in encoder.layout.pooled if f.name not in privileged and set(self._sources(f.name)) <= names
        ]
        self.numbers = [n for n, s in enumerate(encoder.scales) if s.column in names and s.column not in privileged]
        self.id_columns = [n for f in self.features for n in range(f.start, f.start + f.width)]
        self.ids, self.dense = self._encoded()
        of_key = [f for f in self.features if self._sources(f.name) == (self.key,)]
        self.exact = all(isinstance(encoder.tables[f.table], Vocabulary) for f in of_key)
        for feature in of_key:
            self.ids[-1, self.id_columns.index(feature.start)] = OOV

    def _sources(self, feature: str) -> tuple[str, ...]:
        return self.encoder.sources[feature].columns

    def _encoded(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        known = {f.name for f in self.features} | {self.encoder.scales[n].column for n in self.numbers}
        if not known:
            return np.zeros((len(self), 0), np.int32), np.zeros((len(self), 0), np.float32)
        ids, dense = self.encoder.now(self.known.table, known)
        return ids[:, self.id_columns], dense[:, self.numbers]

    def __len__(self) -> int:
        return self.known.unknown + 1

    def rows(self, start: int, stop: int) -> Matrices:
        """The matrices of some items; columns that do not follow from the item are 0."""
        layout = self.encoder.layout
        ids = np.zeros((min(stop, len(self)) - start, layout.num_id_columns), dtype=np.int64)
        dense = np.zeros((len(ids), len(layout.dense)), dtype=np.float32)
        ids[:, self.id_columns] = self.ids[start:stop]
        dense[:, self.numbers] = self.dense[start:stop]
        return {"ids": ids, "dense": dense}


def open_items(encoder: Encoder, given: pa.Table | None, key: str | None) -> Items | None:
    """The items of a bundle: its own table of them, that which is given, and the values of the key's vocabulary.

    key: None takes the item of the history, else the only key that the bundle serves columns by. None where there
    is no key. BadInput for a table without the key, or with a key twice.
    """
    key = key or _default_key(encoder)
    if key is None:
        if given is not None:
            raise BadInput(problem("items", wanted="their key", found="none", remedy="say which column it is"))
        return None
    tables = [] if given is None else [_checked(given, key)]
    if key in encoder.served:
        tables.append(_served(encoder, key))
    own = [
        encoder.tables[f.table]
        for f in encoder.layout.pooled
        if f.kind == "single" and encoder.sources[f.name].columns == (key,)
    ]
    tables += [pa.table({key: table.values}) for table in own if isinstance(table, Vocabulary)]
    if not tables:
        return None
    return Items(encoder, Keyed(key, _joined(tables, key)))


def open_served(encoder: Encoder, apart_from: str | None) -> dict[str, Keyed]:
    """Column -> the table that the bundle knows it by, but for those of the items."""
    tables = {key: Keyed(key, _joined([_served(encoder, key)], key)) for key in encoder.served if key != apart_from}
    return {name: tables[key] for key in tables for name in encoder.served[key].names}


def _served(encoder: Encoder, key: str) -> pa.Table:
    served = encoder.served[key].table
    return served.rename_columns([key if name == "key" else name for name in served.schema.names])


def _default_key(encoder: Encoder) -> str | None:
    history = encoder.features.history
    if history is not None:
        return encoder.sources[history.item].columns[0]
    return next(iter(encoder.served)) if len(encoder.served) == 1 else None


def _checked(given: pa.Table, key: str) -> pa.Table:
    if key not in given.schema.names:
        found, remedy = ", ".join(given.schema.names), "name the key's column"
        raise BadInput(problem("items", wanted=f"column {key}", found=found, remedy=remedy))
    plain = plain_ids(given.column(key).combine_chunks())
    if plain.null_count or len(plain.unique()) != len(plain):
        raise BadInput(problem(f"items: {key}", wanted="every item once", found="nulls or twice", remedy="mend it"))
    return given.set_column(given.schema.names.index(key), key, plain)


def _joined(tables: list[pa.Table], key: str) -> pa.Table:
    """One row a key; a column as the first table that has it says; a last row of nulls."""
    keys = pa.chunked_array([chunk for table in tables for chunk in table.column(key).chunks]).unique()
    columns: dict[str, pa.Array] = {}
    for table in tables:
        places = pc.index_in(keys, value_set=table.column(key).combine_chunks())
        for name in table.schema.names:
            if name != key and name not in columns:
                column = table.column(name).combine_chunks().take(places)
                columns[name] = pa.concat_arrays([column, pa.nulls(1, column.type)])
    return pa.table({key: pa.concat_arrays([keys, pa.nulls(1, keys.type)]), **columns})

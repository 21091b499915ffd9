"""From values to rows of an embedding table: by vocabulary, salted hash or bins; row 0 is absent, 1 unknown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.data.log.values import plain_ids, stable_key
from recdistill.files import digest, file_digest
from recdistill.problems import BadInput, problem
from recdistill.types import ABSENT, FIRST_KNOWN, OOV

Ids = NDArray[np.int32]
Json = dict[str, Any]


def _filled(values: pa.Array, ids: NDArray[Any]) -> Ids:
    """The ids, but ABSENT where the value is null."""
    out = ids.astype(np.int32, copy=False)
    if values.null_count:
        out[values.is_null().to_numpy(zero_copy_only=False)] = ABSENT
    return out


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The values that the train window held often enough, in the order of their ids, from id 2 on."""

    name: str
    values: pa.Array

    @property
    def num_rows(self) -> int:
        return len(self.values) + FIRST_KNOWN

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.values.to_numpy(zero_copy_only=False))

    def ids(self, values: pa.Array) -> Ids:
        """[n] ids: null -> 0, unknown -> 1. BadInput for values of another type than those it was fitted on."""
        if pt.is_null(values.type):
            return np.full(len(values), ABSENT, dtype=np.int32)
        plain = plain_ids(values)
        if plain.type != self.values.type:
            remedy = "give the type that the encoder was fitted on"
            wanted, found = str(self.values.type), str(values.type)
            raise BadInput(problem(f"column {self.name}", wanted=wanted, found=found, remedy=remedy))
        if pt.is_int64(plain.type):  # pandas keeps the hash table between calls, Arrow would build it for each
            places = self._index.get_indexer(pc.fill_null(plain, 0).to_numpy(zero_copy_only=False))
        else:
            places = pc.fill_null(pc.index_in(plain, value_set=self.values), -1).to_numpy(zero_copy_only=False)
        return _filled(plain, np.where(places < 0, OOV, places + FIRST_KNOWN))

    @property
    def digest(self) -> str:
        return arrow_digest(pa.table({"value": self.values}))

    def save(self, folder: Path, stem: str) -> Json:
        path = folder / f"vocabulary-{stem}.arrow"
        with pa.ipc.new_file(path, pa.schema([("value", self.values.type)])) as writer:
            writer.write_table(pa.table({"value": self.values}))
        return {"kind": "vocabulary", "file": path.name, "sha256": file_digest(path)}


@dataclass(frozen=True, kw_only=True)
class Hashed:
    """Values hashed, with a salt, into a fixed number of rows: no vocabulary, but different values may share a row."""

    name: str
    buckets: int
    salt: int

    @property
    def num_rows(self) -> int:
        return self.buckets + FIRST_KNOWN

    def ids(self, values: pa.Array) -> Ids:
        """[n] ids: null -> 0; never unknown.

        >>> Hashed(name="url", buckets=5, salt=9).ids(pa.array(["a", None, "b", "a"])).tolist()
        [5, 0, 3, 5]
        """
        plain = plain_ids(values)  # first of all: the dictionary of an array may hold the null
        out = np.full(len(plain), ABSENT, dtype=np.int32)
        present = plain.is_valid().to_numpy(zero_copy_only=False)
        mixed = splitmix(stable_key(plain.drop_null()).view(np.uint64) ^ np.uint64(self.salt))
        out[present] = (mixed % np.uint64(self.buckets)).astype(np.int32) + FIRST_KNOWN
        return out

    @property
    def digest(self) -> str:
        return digest([self.buckets, self.salt])

    def save(self, folder: Path, stem: str) -> Json:
        return {"kind": "hashed", "buckets": self.buckets, "salt": self.salt}


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Numbers to their place among ascending edges: below the first edge is id 2, from it on id 3, and so on."""

    name: str
    edges: tuple[float, ...] = field(default=())

    @property
    def num_rows(self) -> int:
        return len(self.edges) + 1 + FIRST_KNOWN

    def ids(self, values: pa.Array) -> Ids:
        """[n] ids: null -> 0.

        >>> Bins(name="age", edges=(18.0, 65.0)).ids(pa.array([17, 18, 80, None])).tolist()
        [2, 3, 4, 0]
        """
        numbers = values.cast(pa.float64(), safe=False)
        return self.of_numbers(numbers.to_numpy(zero_copy_only=False))

    def of_numbers(self, numbers: NDArray[np.float64]) -> Ids:
        """[n] ids of numbers whose NaN means null."""
        places = np.searchsorted(self.edges, numbers, side="right") + FIRST_KNOWN
        return np.where(np.isnan(numbers), ABSENT, places).astype(np.int32)

    @property
    def digest(self) -> str:
        return digest(self.edges)

    def save(self, folder: Path, stem: str) -> Json:
        return {"kind": "bins", "edges": list(self.edges)}


Table = Vocabulary | Hashed | Bins


def open_table(name: str, about: Mapping[str, Any], folder: Path) -> Table:
    """What `save` wrote. BadInput where a vocabulary is not the one that was saved."""
    if about["kind"] == "hashed":
        return Hashed(name=name, buckets=about["buckets"], salt=about["salt"])
    if about["kind"] == "bins":
        return Bins(name=name, edges=tuple(about["edges"]))
    path = folder / about["file"]
    if file_digest(path) != about["sha256"]:
        remedy = "restore the folder that was written whole"
        raise BadInput(problem(str(path), wanted="the vocabulary of this encoder", found="another", remedy=remedy))
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        return Vocabulary(name=name, values=reader.read_all().column("value").combine_chunks())


def arrow_digest(table: pa.Table) -> str:
    """sha256 (hex) of a table as one Arrow file would hold it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64-bit numbers that mixes every bit (Steele et al. 2014, SplitMix64's finaliser)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

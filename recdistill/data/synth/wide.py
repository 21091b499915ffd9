"""A wide log for benchmarks of the data path: many id and number columns, a label with a weak planted signal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.data.synth.files import MADE_BY, MAX_DICTIONARY, TRUTH, refuse_others, write_parts
from recdistill.data.synth.truth import Tally
from recdistill.data.synth.world import NUM_CELLS, cells, relevance_of
from recdistill.files import whole_folder, write_json
from recdistill.problems import BadInput, problem

Kind = Literal["int64", "string"]
_FIRST_US = 1_767_225_600_000_000  # 2026-01-01
_SPAN_US = 10 * 86_400_000_000
_ROWS_PER_CHUNK = 100_000
_ROWS_PER_USER = 50
_IDS_THAT_TELL, _NUMBERS_THAT_TELL = 4, 2
_OFFSET = np.float32(-1)
_NULL_IN = 20  # one number in twenty is null
_RANGES: dict[str, tuple[float, float]] = {
    "rows": (1, 1e12),
    "ids": (1, 1000),
    "numbers": (0, 1000),
    "cardinality": (1, 1e7),
    "skew": (0, 5),
    "seed": (0, 2**63 - 1),
}


def shape(text: str) -> tuple[int, int]:
    """Numbers of id and number columns. BadInput for what is not written like 20x13.

    >>> shape("20x13")
    (20, 13)
    """
    ids, _, numbers = text.partition("x")
    if not (ids.isdecimal() and numbers.isdecimal()):
        raise BadInput(problem("wide", wanted="IDSxNUMBERS", found=repr(text), remedy="write it as in 20x13"))
    return int(ids), int(numbers)


def wide(
    folder: Path,
    num_rows: int,
    *,
    num_ids: int,
    num_numbers: int,
    cardinality: int,
    seed: int,
    kind: Kind = "int64",
    skew: float = 0.0,
) -> int:
    """Write part-0000.parquet and on, at most a million rows each, whole or not at all; returns the number of rows.

    Columns: user_id, timestamp (even over 10 days), id_00 and on (int64 over the whole range, or strings of 8 hex
    digits; each column has `cardinality` values, the one of rank r drawn about as r ** -skew), number_00 and on (log
    normal with deviation 1.5, one in twenty null), label. The label's logit is -1 + the values' effects in the first
    four id columns, each N(0, 0.25), + 0.1 of the log of the first two numbers. BadInput with all that is wrong.
    """
    given = {"rows": num_rows, "ids": num_ids, "numbers": num_numbers, "cardinality": cardinality}
    _check({**given, "skew": skew, "seed": seed}, kind)
    refuse_others(folder)
    world = _Wide(num_rows, num_ids, num_numbers, cardinality, seed, kind, skew)
    repeating = ["user_id", "label", *(world.id_names if cardinality <= MAX_DICTIONARY else [])]
    with whole_folder(folder, MADE_BY) as unfinished:
        write_parts(unfinished, world.tables(), repeating)
        write_json(unfinished / TRUTH, {"wide": {**given, "kind": kind, "skew": skew, "seed": seed}, **world.truth()})
    return num_rows


def _check(given: dict[str, float], kind: str) -> None:
    lines = [
        problem(f"wide: {name}", wanted=f"{low:g} to {high:g}", found=repr(given[name]), remedy="mend it")
        for name, (low, high) in _RANGES.items()
        if not low <= given[name] <= high
    ]
    if kind not in ("int64", "string"):
        lines.append(problem("wide: kind", wanted="int64 or string", found=repr(kind), remedy="mend it"))
    if lines:
        raise BadInput(lines)


class _Wide:
    """Draws the rows; every chunk has its own generator."""

    def __init__(
        self, num_rows: int, num_ids: int, num_numbers: int, cardinality: int, seed: int, kind: Kind, skew: float
    ) -> None:
        self.num_rows, self.cardinality, self.seed, self.skew = num_rows, cardinality, seed, skew
        self.id_names = [f"id_{n:02d}" for n in range(num_ids)]
        self.number_names = [f"number_{n:02d}" for n in range(num_numbers)]
        generator = np.random.default_rng([seed, 2])
        salts = generator.integers(0, 2**63, num_ids, dtype=np.uint64)
        self.values = [_names(cardinality, salt) if kind == "string" else _hashes(cardinality, salt) for salt in salts]
        self.effects = generator.standard_normal((min(num_ids, _IDS_THAT_TELL), cardinality), dtype=np.float32) / 4
        chance = 1 / (1 + np.exp(-relevance_of(np.arange(NUM_CELLS))))
        self.probability = chance.astype(np.float32)
        self.tally = Tally(chance[:, None])

    def truth(self) -> dict[str, Any]:
        return self.tally.to_json()

    def tables(self) -> Iterator[pa.Table]:
        for first in range(0, self.num_rows, _ROWS_PER_CHUNK):
            generator = np.random.Generator(np.random.SFC64([self.seed, 3, first]))
            yield self._table(generator, first, min(_ROWS_PER_CHUNK, self.num_rows - first))

    def _table(self, generator: np.random.Generator, first: int, count: int) -> pa.Table:
        relevance = np.full(count, _OFFSET)
        ids, numbers = {}, {}
        for n, name in enumerate(self.id_names):
            codes = draw(generator, count, self.cardinality, self.skew)
            if n < len(self.effects):
                relevance += self.effects[n][codes]
            ids[name] = _looked_up(self.values[n], codes)
        for n, name in enumerate(self.number_names):
            size = generator.standard_normal(count, dtype=np.float32)
            size *= np.float32(1.5)
            null = generator.integers(0, _NULL_IN, count, dtype=np.uint8) == 0
            if n < _NUMBERS_THAT_TELL:
                relevance += np.where(null, np.float32(0), size * np.float32(0.1))
            numbers[name] = pa.array(np.exp(size, out=size), mask=null)
        cell = cells(relevance)
        label = generator.random(count, dtype=np.float32) < self.probability[cell]
        share = np.arange(first, first + count) / self.num_rows
        self.tally.add(cell, label, int(np.searchsorted(share, 0.9)))
        moment = _FIRST_US + (share * _SPAN_US).astype(np.int64)
        user = generator.integers(0, self.num_rows // _ROWS_PER_USER + 1, count)
        fixed = {"user_id": user, "timestamp": pa.array(moment).cast(pa.timestamp("us", tz="UTC"))}
        return pa.table({**fixed, **ids, **numbers, "label": label.view(np.int8)})


def draw(generator: np.random.Generator, count: int, cardinality: int, skew: float) -> NDArray[np.int32]:
    """[count] codes from 0: uniform, or rank r (from 0) with the weight of x ** -skew over [r + 1, r + 2)."""
    if skew == 0:
        return generator.integers(0, cardinality, count, dtype=np.int32)
    uniform = generator.random(count)
    if skew == 1:
        rank = np.exp(uniform * np.log(cardinality + 1))
    else:
        power = 1 - skew
        rank = np.exp(np.log1p(uniform * ((cardinality + 1) ** power - 1)) / power)
    return np.minimum(rank.astype(np.int32) - 1, cardinality - 1)


def _looked_up(values: pa.Array | NDArray[np.int64], codes: NDArray[np.int32]) -> pa.Array | NDArray[np.int64]:
    return values[codes] if isinstance(values, np.ndarray) else pa.DictionaryArray.from_arrays(codes, values)


def _hashes(cardinality: int, salt: np.uint64) -> NDArray[np.int64]:
    """[cardinality] different int64: the finaliser of splitmix64, which maps no two numbers to one."""
    mixed = np.arange(cardinality, dtype=np.uint64) + salt
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))).view(np.int64)


def _names(cardinality: int, salt: np.uint64) -> pa.Array:
    """[cardinality] different strings of 8 hex digits: multiplying by an odd number maps no two codes to one."""
    mixed = (np.arange(cardinality, dtype=np.uint32) + salt.astype(np.uint32)) * np.uint32(0x9E3779B1)
    return pa.array([f"{value:08x}" for value in mixed.tolist()])

"""A random order of any number of rows in no memory: a keyed permutation, whose whole state is a position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.data.tables import splitmix

_ROUNDS = 8
_FEW = 1024
_MULTIPLIER = {np.uint32: np.uint32(0x7FEB352D), np.uint64: np.uint64(0xBF58476D1CE4E5B9)}
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permutation:
    """A bijection of 0..num-1, chosen by `key`: a Feistel network over as few bits as hold num, with cycle walking.

    Source: Black & Rogaway, Ciphers with Arbitrary Finite Domains (CT-RSA 2002), with a multiplication and shifts as
    round function instead of a cipher: for shuffling, not for secrets.
    """

    num: int
    key: int

    def __call__(self, place: Ints) -> Ints:
        """[n] places in 0..num-1 -> [n] rows.

        >>> sorted(Permutation(num=7, key=3)(np.arange(7)).tolist())
        [0, 1, 2, 3, 4, 5, 6]
        """
        if self.num <= _FEW:  # too few bits to mix well, and too few rows to matter
            return np.random.default_rng(self.key).permutation(self.num)[place]
        bits = (self.num - 1).bit_length()
        word: Any = np.uint32 if bits <= 32 else np.uint64
        mixed = splitmix(np.array([self.key % 2**64], dtype=np.uint64))  # so that no two keys share a round
        keys = splitmix(np.arange(_ROUNDS, dtype=np.uint64) + mixed).astype(word)
        out = _network(place.astype(word), bits, keys, word)
        outside = np.flatnonzero(out >= self.num)
        while len(outside):
            out[outside] = _network(out[outside], bits, keys, word)
            outside = outside[out[outside] >= self.num]
        return out.astype(np.int64)


def _network(x: NDArray[Any], bits: int, keys: NDArray[Any], word: Any) -> NDArray[Any]:
    """A bijection of 0..2**bits-1: each half in turn is changed by a mix of the other."""
    low = word(bits // 2)
    masks = word(2 ** (bits // 2) - 1), word(2 ** (bits - bits // 2) - 1)
    halves = [x & masks[0], x >> low]
    for turn, key in enumerate(keys):
        mixed = (halves[turn % 2] ^ key) * _MULTIPLIER[word]
        mixed ^= mixed >> word(15)
        mixed *= _MULTIPLIER[word]
        mixed ^= mixed >> word(13)
        mixed &= masks[1 - turn % 2]
        halves[1 - turn % 2] ^= mixed
    return (halves[1] << low) | halves[0]

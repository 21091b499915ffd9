"""A random order of any number of rows in no memory: a keyed permutation, so that a position is all that is saved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recdistill.data.tables import splitmix

_ROUNDS = 6
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permutation:
    """A bijection of 0..num-1, chosen by `key`: a generalised Feistel network with cycle walking.

    Source: Black & Rogaway, Ciphers with Arbitrary Finite Domains (CT-RSA 2002), with a mixed counter as round function
    instead of a cipher: for shuffling, not for secrets.
    """

    num: int
    key: int

    def __call__(self, place: Ints) -> Ints:
        """[n] places in 0..num-1 -> [n] rows.

        >>> sorted(Permutation(num=7, key=3)(np.arange(7)).tolist())
        [0, 1, 2, 3, 4, 5, 6]
        """
        wide = np.uint64(math.isqrt(max(self.num - 1, 0)) + 1)
        out = self._network(place.astype(np.uint64), wide)
        outside = np.flatnonzero(out >= np.uint64(self.num))
        while len(outside):
            out[outside] = self._network(out[outside], wide)
            outside = outside[out[outside] >= np.uint64(self.num)]
        return out.astype(np.int64)

    def _network(self, x: NDArray[np.uint64], wide: np.uint64) -> NDArray[np.uint64]:
        left, right = x // wide, x % wide
        for turn in range(_ROUNDS):
            key = np.uint64((self.key * 0x9E3779B97F4A7C15 + turn * 0xD1B54A32D192ED03) % 2**64)
            mixed = splitmix(right ^ key) >> np.uint64(1)  # a sum that overflowed would not be a bijection
            left, right = right, (left + mixed) % wide
        return left * wide + right

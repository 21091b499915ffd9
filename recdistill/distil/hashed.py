"""Chance that is a function of the row: the same row, seed and purpose give the same number in any order and epoch."""

import math

import torch
from torch import Tensor

_MASK = (1 << 31) - 1


def uniform(row_id: Tensor, seed: int) -> Tensor:
    """[N] float64 in (0, 1), by a 31-bit hash of [N] int64.

    >>> uniform(torch.tensor([7, 8, 7]), 0).tolist() == uniform(torch.tensor([7, 8, 7]), 0).tolist()
    True
    """
    mixed = (row_id & _MASK) ^ ((row_id >> 31) & _MASK) ^ ((seed * 0x5BD1E995 + 0x2545F491) & _MASK)
    for factor in (0x45D9F3B, 0x119DE1F3, 0x45D9F3B):
        mixed = ((mixed ^ (mixed >> 15)) * factor) & _MASK
    mixed = mixed ^ (mixed >> 16)
    return (mixed.double() + 0.5) / (_MASK + 1)


def normal(row_id: Tensor, seed: int) -> Tensor:
    """[N] float64, standard normal, from two hashes by Box and Muller (1958)."""
    radius = torch.sqrt(-2 * torch.log(uniform(row_id, 2 * seed)))
    return radius * torch.cos(2 * math.pi * uniform(row_id, 2 * seed + 1))

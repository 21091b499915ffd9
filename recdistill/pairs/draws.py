"""Items drawn for a step of training or an evaluation: such that the user has not acted on them, each alike."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from recdistill.pairs.store import Acts, Ints
from recdistill.types import FIRST_KNOWN, Batch

_TRIES = 50


def unseen_items(acts: Acts, user: Ints, number: int, generator: np.random.Generator) -> Ints:
    """[n, number] items that the users have not acted on, with replacement.

    A user that has acted on nearly all may get some that it has.
    """
    line = np.repeat(user, number)
    item = generator.integers(FIRST_KNOWN, acts.num_items, len(line))
    wrong = np.flatnonzero(acts.holds(line, item))
    for _ in range(_TRIES):
        if not len(wrong):
            break
        item[wrong] = generator.integers(FIRST_KNOWN, acts.num_items, len(wrong))
        wrong = wrong[acts.holds(line[wrong], item[wrong])]
    return item.reshape(len(user), number)


def labelled(acts: Acts, user: Ints, item: Ints, number: int, generator: np.random.Generator) -> Batch:
    """A request for each pair: the pair (label 1), then `number` drawn items (label 0)."""
    drawn = unseen_items(acts, user, number, generator)
    items = np.concatenate([item[:, None], drawn], axis=1)
    label = np.zeros(items.shape, dtype=np.float32)
    label[:, 0] = 1
    line = np.repeat(np.arange(len(user)), number + 1)
    return pair_batch(acts, user[line], items.reshape(-1), label.reshape(-1), line)


def pair_batch(acts: Acts, user: Ints, item: Ints, label: NDArray[np.float32], request: Ints) -> Batch:
    """Rows of pairs. label: [N] float32."""
    num_rows = len(user)
    return Batch(
        ids=torch.from_numpy(np.column_stack([user, item])),
        dense=torch.zeros((num_rows, 0)),
        label=torch.from_numpy(label),
        weight=torch.ones(num_rows),
        offset=torch.zeros(num_rows),
        request=torch.from_numpy(request),
        row_id=torch.from_numpy(user * acts.num_items + item),
    )

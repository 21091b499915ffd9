"""Whose vectors a method compares: the rows' last hidden layers or, in the shape of pairs, users' and items'."""

from __future__ import annotations

from dataclasses import dataclass, replace  # noqa: F401 - replace is the example's

import torch
from torch import Tensor

from recdistill.distil.facts import Facts, Widths
from recdistill.types import Batch, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Entities:
    """M vectors, each once. own: [M, H] the student's. theirs: [M, H'] the teacher's. key: [M] int64, its own number.

    side: [M] int64, 0 for users or rows, 1 for items. places: [N, S] where the S entities of each row stand.
    """

    own: Tensor
    theirs: Tensor
    key: Tensor
    side: Tensor
    places: Tensor

    def on(self, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """own, theirs and key of one side; the entities stand side by side, the first one first."""
        here = self.side == side
        return self.own[here], self.theirs[here], self.key[here]

    def of_rows(self, value_M: Tensor) -> Tensor:
        """[N] the mean over a row's entities."""
        return value_M[self.places].mean(dim=1)


def num_sides(facts: Facts) -> int:
    """2 where hidden vectors are a user's beside an item's, as in the shape of pairs; else 1."""
    return 2 if facts.student is not None and facts.teacher is not None and _is_pair(facts.teacher) else 1


def _is_pair(widths: Widths) -> bool:
    return widths.fields == ("user", "item") and not widths.blocks and widths.hidden == 2 * widths.field


def widths_of(facts: Facts) -> tuple[int, int]:
    """(H, H') of one entity."""
    assert facts.student is not None
    assert facts.teacher is not None
    return facts.student.hidden // num_sides(facts), facts.teacher.hidden // num_sides(facts)


def entities(student: Scores, teacher: Scores, batch: Batch, sides: int) -> Entities:
    """Of a batch; the columns of batch.ids are user and item where there are two sides.

    >>> rows = replace(Batch.example(label=[1.0, 0.0]), ids=torch.tensor([[7, 8], [7, 9]]))  # one user, two items
    >>> scores = Scores(logit=torch.zeros(2), hidden=torch.tensor([[1.0, 2.0], [1.0, 5.0]]))
    >>> found = entities(scores, scores, rows, 2)
    >>> found.own.squeeze(1).tolist(), found.side.tolist(), found.places.tolist()
    ([1.0, 2.0, 5.0], [0, 1, 1], [[0, 1], [0, 2]])
    """
    assert student.hidden is not None
    assert teacher.hidden is not None
    theirs_NH = teacher.hidden.to(student.hidden.dtype)
    if sides == 1:
        place_N = torch.arange(len(theirs_NH), device=theirs_NH.device)
        side = torch.zeros_like(place_N)
        return Entities(own=student.hidden, theirs=theirs_NH, key=batch.row_id, side=side, places=place_N.unsqueeze(1))
    (own_U, own_I), (theirs_U, theirs_I) = (hidden.chunk(2, dim=1) for hidden in (student.hidden, theirs_NH))
    user, user_at, user_N = _once(batch.ids[:, 0])
    item, item_at, item_N = _once(batch.ids[:, 1])
    return Entities(
        own=torch.cat([own_U[user_at], own_I[item_at]]),
        theirs=torch.cat([theirs_U[user_at], theirs_I[item_at]]),
        key=torch.cat([2 * user, 2 * item + 1]),
        side=torch.cat([torch.zeros_like(user), torch.ones_like(item)]),
        places=torch.stack([user_N, item_N + len(user)], dim=1),
    )


def _once(ids_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The ids that there are, a row that has each, and which of them each row has."""
    found, which_N = torch.unique(ids_N, return_inverse=True)
    at = torch.zeros_like(found).scatter(0, which_N, torch.arange(len(ids_N), device=ids_N.device))
    return found, at, which_N

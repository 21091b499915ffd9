"""What a step's pairs cost without a teacher: against drawn items, or against all that their users did not act on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from recdistill.config.pairs import PairModel
from recdistill.distil.facts import Facts
from recdistill.distil.lesson import Lesson, made
from recdistill.distil.recipe import Recipe
from recdistill.pairs.draws import labelled
from recdistill.pairs.models import MatrixFactorisation
from recdistill.pairs.store import Acts, Ints
from recdistill.pairs.terms import label_terms
from recdistill.types import FIRST_KNOWN, Batch

Cost = Callable[[Ints, Ints, float], tuple[Mapping[str, Tensor], Tensor]]
"""(users [N], items [N], progress) -> (named losses, half the mean squared length of a pair's vectors)."""


def label_cost(
    recipe: Recipe, spec: PairModel, facts: Facts, acts: Acts, model: MatrixFactorisation, seed: int
) -> Cost:
    """The terms without a teacher. Weights that they own are drawn from torch's generator, and not trained."""
    terms = label_terms(recipe, spec)
    if spec.negatives == "all":
        return _against_all(terms, spec, facts, acts, model)
    return _against_drawn(terms, spec.negatives, facts, acts, model, np.random.default_rng([seed, 7]))


def _against_drawn(
    terms: Recipe, number: int, facts: Facts, acts: Acts, model: MatrixFactorisation, generator: np.random.Generator
) -> Cost:
    lesson = Lesson(terms, facts, student=model) if terms.terms else None

    def cost(user: Ints, item: Ints, progress: float) -> tuple[Mapping[str, Tensor], Tensor]:
        rows = labelled(acts, user, item, number, generator)
        named = {"loss": model.user.new_zeros(())} if lesson is None else lesson.losses(rows, progress)
        return named, _mean_length(model, rows, number)

    return cost


def _mean_length(model: MatrixFactorisation, rows: Batch, negatives: int) -> Tensor:
    """Half the squared lengths of a pair's user, item and drawn items, over the pairs."""
    user_NE, item_NE = model.own(rows.ids)
    pairs = len(rows) / (negatives + 1)
    return (user_NE.square().sum() / (negatives + 1) + item_NE.square().sum()) / (2 * pairs)


def _against_all(terms: Recipe, spec: PairModel, facts: Facts, acts: Acts, model: MatrixFactorisation) -> Cost:
    """Users' scores of all items are one product of matrices, so that a step of whole users costs little."""
    name = "label.softmax"
    schedules = [(term.weight, made(term.schedule or terms.schedule, facts)) for term in terms.terms]

    def cost(user: Ints, item: Ints, progress: float) -> tuple[Mapping[str, Tensor], Tensor]:
        value = softmax_of_all(*model.vectors(), acts, user, item, temperature=spec.temperature)
        weight = sum(weight * schedule(progress).label for weight, schedule in schedules)
        user_NE, item_NE = model.own(torch.from_numpy(np.column_stack([user, item])))
        length = (user_NE.square().sum() + item_NE.square().sum()) / (2 * len(user))
        return {"loss": weight * value, name: value.detach()}, length

    return cost


def softmax_of_all(users: Tensor, items: Tensor, acts: Acts, user: Ints, item: Ints, *, temperature: float) -> Tensor:
    """label.softmax with every item that a pair's user did not act on as a negative: the mean over the pairs, in nats.

    users: [users, E], items: [items, E]. user, item: [N] of the pairs, which `acts` holds.

    >>> from recdistill.pairs.store import acts
    >>> some, items = acts([2, 2], [2, 3], num_users=3, num_items=5), torch.tensor([[9.0], [9.0], [2.0], [4.0], [0.0]])
    >>> users = torch.ones((3, 1))
    >>> loss = softmax_of_all(users, items, some, np.array([2]), np.array([2]), temperature=2.0)
    >>> torch.allclose(loss.exp(), 1 + torch.tensor(-1.0).exp())  # item 4 alone is a negative; 3 was acted on
    True
    """
    some, line = np.unique(user, return_inverse=True)
    logit_GI = users[torch.from_numpy(some)] @ items.T / temperature
    out_GI = torch.zeros(logit_GI.shape, dtype=torch.bool)
    seen_line, seen_item = acts.rows_of(some)
    out_GI[torch.from_numpy(seen_line), torch.from_numpy(seen_item)] = True
    out_GI[:, :FIRST_KNOWN] = True
    rest_G = torch.logsumexp(logit_GI.masked_fill(out_GI, -1e9), dim=1)
    place_N = torch.from_numpy(line)
    return softplus(rest_G[place_N] - logit_GI[place_N, torch.from_numpy(item)]).mean()

"""How much a model agrees with its teacher, under B weightings of the users at once."""

from __future__ import annotations

import numpy as np

from recdistill.metrics.ranking import top
from recdistill.metrics.rows import Floats, Rows, mean_of_groups, per_user, ratio


def correlation(logit: Floats, teacher: Floats, rows: Rows, weight_BU: Floats) -> Floats:
    """Pearson correlation of a model's logits with the teacher's. [B]; NaN where one of them is constant."""
    x, y = logit - logit.mean(), teacher - teacher.mean()
    moments = [weight_BU @ per_user(v, rows) for v in (np.ones_like(x), x, y, x * x, y * y, x * y)]
    n, sx, sy, sxx, syy, sxy = moments
    spread = np.sqrt(np.maximum(n * sxx - sx * sx, 0) * np.maximum(n * syy - sy * sy, 0))
    return ratio(n * sxy - sx * sy, spread)


def overlap(logit: Floats, teacher: Floats, rows: Rows, weight_BU: Floats, *, k: int) -> Floats:
    """Mean over requests of more than k rows: share of the teacher's top k that the model's top k holds. [B]

    Among equal scores the earlier row is taken.
    """
    shared_G = np.bincount(rows.request, top(logit, rows, k=k) & top(teacher, rows, k=k)) / k
    user_G = np.zeros(len(shared_G), dtype=np.int64)
    user_G[rows.request] = rows.user
    return mean_of_groups(shared_G, np.bincount(rows.request) > k, user_G, rows.num_users, weight_BU)

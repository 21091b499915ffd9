"""Whether two ways of training differ beyond luck: intervals over users, and over the seeds that were not drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recdistill.metrics.rows import Floats


def beyond_seeds(one_SB: Sequence[Floats], other_SB: Sequence[Floats], generator: np.random.Generator) -> Floats:
    """[B + 1] draws of mean(one) - mean(other), over users and seeds; NaN where neither side has two seeds.

    one_SB, other_SB: a metric's draws [B + 1] over users for each seed, the same users in all, point value first.

    The draws over users hold what users and seeds do together; what seeds do to everyone is added: a draw of Student's
    t with n + m - 2 degrees of freedom, times sqrt((1/n + 1/m) * excess). The excess is the variance over seeds that
    users do not explain, at least 0: 2 s^2 - mean over draws of s_b^2, as a draw over users adds to the variance s^2
    between seeds, pooled over both sides, as much again as the users already did.

    Drawing the seeds anew with replacement, as `Bootstrap.over_seeds` does, needs many of them: with three a side it
    called 9 of 40 identical retrains of the demo's student better, and users alone 17 (benchmarks/gates.py).

    >>> found = beyond_seeds([np.array([3.0, 3.0]), np.array([5.0, 5.0])], [np.zeros(2)], np.random.default_rng(0))
    >>> float(found[0])  # (3 + 5) / 2 - 0
    4.0
    """
    one, other = np.stack(one_SB), np.stack(other_SB)
    freedom = len(one) + len(other) - 2
    if freedom == 0:
        return np.full(one.shape[1], np.nan)
    variance_B = (len(one) * one.var(axis=0) + len(other) * other.var(axis=0)) / freedom
    excess = max(0.0, 2 * variance_B[0] - variance_B[1:].mean())
    scale = np.sqrt(excess * (1 / len(one) + 1 / len(other)))
    noise_B = np.r_[0.0, generator.standard_t(freedom, one.shape[1] - 1)]
    return one.mean(axis=0) - other.mean(axis=0) + scale * noise_B

"""Which of many points no other one beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pareto(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[n] whether no other point is at least as good in every column and better in one; less is better. points: [n, m].

    >>> pareto(np.array([[1.0, 5.0], [2.0, 2.0], [3.0, 2.0], [1.0, 5.0]])).tolist()
    [True, True, False, True]
    """
    no_worse = (points[:, None, :] <= points[None, :, :]).all(axis=2)
    better = (points[:, None, :] < points[None, :, :]).any(axis=2)
    beaten: NDArray[np.bool_] = np.any(no_worse & better, axis=0)
    return ~beaten

"""Intervals clustered by user, over users and seeds: the same draws for every model, so that differences are paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from recdistill.metrics.rows import Floats, Ints

Draws = dict[str, Floats]
"""Metric -> [B + 1], the point value first."""


def user_draws(num_users: int, num_draws: int, generator: np.random.Generator) -> Floats:
    """[num_draws + 1, num_users] weights: a first line of ones (the point value), then bootstrap counts of users."""
    counts = generator.multinomial(num_users, np.full(num_users, 1 / num_users), size=num_draws)
    return np.concatenate([np.ones((1, num_users)), counts]).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """weights: [B + 1, U] of users, the first line all ones. seeds: [B + 1, S] which seeds a draw averages over."""

    weights: Floats
    seeds: Ints

    def over_seeds(self, measured: Sequence[Mapping[str, Floats]]) -> Draws:
        """Each draw's mean over the seeds that it drew; measured: of every seed, or of a model that has but one."""
        seeds = self.seeds if len(measured) > 1 else np.zeros((len(self.seeds), 1), dtype=np.int64)
        lines = np.arange(len(seeds))[:, None]
        return {name: np.stack([one[name] for one in measured])[seeds, lines].mean(axis=1) for name in measured[0]}


def bootstrap(num_users: int, num_draws: int, num_seeds: int, generator: np.random.Generator) -> Bootstrap:
    """Draws of users and of seeds, for all models alike."""
    weights = user_draws(num_users, num_draws, generator)
    seeds = generator.integers(0, num_seeds, (num_draws + 1, num_seeds))
    seeds[0] = np.arange(num_seeds)
    return Bootstrap(weights=weights, seeds=seeds)


def difference(one: Draws, other: Draws) -> Draws:
    """Paired difference, draw by draw."""
    return {metric: one[metric] - other[metric] for metric in one}


@dataclass(frozen=True, slots=True)
class Interval:
    """A point value with its 95% interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> list[float | None]:
        return [None if np.isnan(x) else float(x) for x in (self.value, self.low, self.high)]


def interval(draws_B: Floats) -> Interval:
    """The first entry as value, the 2.5% and 97.5% quantiles of the others as ends; NaN draws are left out."""
    if np.isnan(draws_B).all():
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.nanquantile(draws_B[1:], [0.025, 0.975])
    return Interval(float(draws_B[0]), float(low), float(high))


def simultaneous(draws_B: Floats, num: int) -> Interval:
    """One of `num` intervals of which all hold at once with 95%: Bonferroni's, normal, of the draws' spread.

    Not percentiles as in `interval`: they lie so far out that hardly a draw is beyond them. NaN draws are left out.

    >>> simultaneous(np.array([1.0, 0.0, 2.0]), 1).high == 1 + NormalDist().inv_cdf(0.975)
    True
    """
    if np.isnan(draws_B[0]) or np.isnan(draws_B[1:]).all():
        return Interval(float("nan"), float("nan"), float("nan"))
    reach = NormalDist().inv_cdf(1 - 0.025 / num) * float(np.nanstd(draws_B[1:]))
    return Interval(float(draws_B[0]), float(draws_B[0]) - reach, float(draws_B[0]) + reach)


def cell(value: Sequence[float | None], *, signed: bool = False) -> str:
    """An interval's JSON with four decimals; "none" where there is no value.

    >>> cell([0.5, 0.25, 0.75], signed=True)
    '+0.5000 (+0.2500 to +0.7500)'
    """
    middle, low, high = value
    if middle is None or low is None or high is None:
        return "none"
    sign = "+" if signed else ""
    return f"{middle:{sign}.4f} ({low:{sign}.4f} to {high:{sign}.4f})"

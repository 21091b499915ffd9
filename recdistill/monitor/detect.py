"""An alarm with a stated false-alarm rate: a series of measured windows -> the windows at which it fires."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtri, stdtr

Harm = Literal["down", "up", "either"]
SHIFTS = (0.5, 1.0, 2.0, 4.0)  # in standard deviations of a window; a mixture of them stands for the unknown one
_ALIKE = 1e-12  # of a value: what rounding leaves between values that are all the same
_MOST = 8.0  # of a normal score: further out the two distribution functions are 0 or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One window of a series. score: a standard normal while nothing changes, None for the first two and for a window
    that could not be measured. evidence: of a change; fires: whether it reached the threshold."""

    score: float | None
    evidence: float
    fires: bool


def detect(values: Sequence[float], errors: Sequence[float], harm: Harm, threshold: float) -> list[Step]:
    """A change of level, from the values of consecutive windows and their standard errors; NaN: could not be measured.

    Each value is held against all before it: the recursive residual of a weighted mean, over its estimated standard
    deviation, is exactly Student-t, and independent of those before, whatever the level and however much more windows
    vary than their errors say (a self-starting chart: Hawkins, The Statistician 1987, with weights 1 / error^2, and t
    made normal as in Quesenberry, J. Quality Technology 1991). No reference period is needed, and none is estimated
    with an error that would spoil the rate.

    The evidence is a Shiryaev-Roberts sum of likelihood ratios exp(d z - d^2 / 2), R_t = (1 + R_t-1) L_t, averaged over
    shifts d in the direction of harm: an e-detector (Shin, Ramdas & Rinaldo, 2022, section 2). Without a change R_t - t
    is a martingale, so the expected number of windows until R reaches A is at least A, and the chance that it does so
    within n windows is at most n / A. We differ in that it begins anew, level and all, after each alarm: what comes
    next is held against what came after the change.

    Rests on windows that, without a change, differ from one level by independent normal errors whose sizes are in the
    proportion of `errors`. A series of K that are watched together has `threshold` K A: then the mean of their
    evidence is such a sum, and the bound A holds for the first alarm of any of them, however they depend.

    >>> steps = detect([0.70, 0.71, 0.70, 0.69, 0.70, 0.40], [0.01] * 6, "down", 20)
    >>> [step.fires for step in steps]
    [False, False, False, False, False, True]
    """
    shifts = [d for d in SHIFTS if harm != "down"] + [-d for d in SHIFTS if harm != "up"]
    level, sums, found = _Level(), [0.0] * len(shifts), []
    for value, error in zip(values, errors, strict=True):
        if not (math.isfinite(value) and math.isfinite(error) and error > 0):
            found.append(Step(score=None, evidence=_mean(sums), fires=False))
            continue
        score = level.score(value, error)
        if score is not None:
            sums = [(1 + one) * math.exp(d * score - d * d / 2) for d, one in zip(shifts, sums, strict=True)]
        evidence = _mean(sums)
        found.append(Step(score=score, evidence=evidence, fires=evidence >= threshold))
        if evidence >= threshold:
            level, sums = _Level(), [0.0] * len(shifts)
    return found


def _mean(sums: Sequence[float]) -> float:
    return sum(sums) / len(sums)


class _Level:
    """The weighted mean of what came so far, and how much the values vary around it."""

    def __init__(self) -> None:
        self.num, self.weight, self.mean, self.squares = 0, 0.0, 0.0, 0.0

    def score(self, value: float, error: float) -> float | None:
        """The next value's standard normal score; the value then belongs to the level. None for the first two."""
        weight, found = error**-2, None
        off = 0.0 if math.isclose(value, self.mean, rel_tol=_ALIKE) else float(value - self.mean)
        if self.num >= 2:
            spread = math.sqrt(self.squares / (self.num - 1) * (1 / weight + 1 / self.weight))
            found = _normal(off / spread, self.num - 1) if spread else math.copysign(_MOST if off else 0, off)
        if self.num:
            self.squares += off * off / (1 / weight + 1 / self.weight)
        self.weight += weight
        self.mean += off * weight / self.weight
        self.num += 1
        return found


def _normal(student: float, freedom: int) -> float:
    """The standard normal score of the same probability; by the lower tail, where a small one is exact."""
    tail = float(ndtri(stdtr(freedom, -abs(student))))
    return math.copysign(min(-tail, _MOST), student)

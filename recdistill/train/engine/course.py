"""How far a training is: its position in the rows, its checks, what it keeps and when it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recdistill.config.training import Training
from recdistill.data.batches import Position

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One look at the validation window. epoch: a fraction of epochs done. losses: means since the last look.

    progressive_auc: of the rows since the last look, each scored before it was learnt from; None unless in one pass.
    """

    epoch: float
    step: int
    valid_auc: float
    losses: dict[str, float]
    rows_per_s: float
    seconds: float
    progressive_auc: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The weights that were kept: those of the best check or, in one pass, of the last; and all checks.

    rewinds: how often it went back to a snapshot. snapshots: the folder of these; None where none were taken.
    """

    weights: Weights
    curve: tuple[Check, ...]
    one_pass: bool = False
    rewinds: int = 0
    snapshots: Path | None = None

    @property
    def best(self) -> Check:
        """The check whose weights were kept."""
        return self.curve[-1] if self.one_pass else max(self.curve, key=lambda check: _rank(check.valid_auc))


class Course:
    """All that the next step depends on, beside weights, optimisers and random numbers.

    scale: what all learning rates are multiplied by. kept: the name of the weights that are kept, once there are some.
    """

    def __init__(self, settings: Training, num_rows: int, *, one_pass: bool = False) -> None:
        self.settings, self.num_rows, self.one_pass = settings, num_rows, one_pass
        self.position = Position()
        self.seen = self.step = self.worse = self.rewinds = 0
        self.scale = 1.0
        self.curve: list[Check] = []
        self.kept: str | None = None
        self._began = time.perf_counter()

    @property
    def epochs(self) -> float:
        """Epochs done."""
        return self.position.epoch + self.seen / self.num_rows

    @property
    def progress(self) -> float:
        """From 0 to 1 over all epochs."""
        return self.epochs / self.settings.epochs

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def over(self) -> bool:
        if not self.num_rows or self.epochs >= self.settings.epochs:
            return True
        return self.worse >= self.settings.patience and not self.one_pass

    def did(self, position: Position, num_rows: int) -> bool:
        """Note a step over so many rows; whether it ended a part of the epoch, so that a check is due."""
        before = self.seen if position.epoch == self.position.epoch else 0
        self.position, self.seen = position, before + num_rows
        self.step += 1
        return self._parts(self.seen) > self._parts(before)

    def _parts(self, seen: int) -> int:
        """How many parts of the epoch are done after so many rows."""
        checks = self.settings.checks_per_epoch
        return min(checks, ((seen + 1) * checks - 1) // self.num_rows)

    def checked(self, check: Check) -> bool:
        """Note a check; whether its weights are to be kept: those of the best so far or, in one pass, of the last."""
        best = max((_rank(earlier.valid_auc) for earlier in self.curve), default=-math.inf)
        better = _rank(check.valid_auc) > best
        self.worse = 0 if better else self.worse + 1
        self.curve.append(check)
        return better or self.one_pass

    def to_json(self) -> dict[str, Any]:
        names = ("seen", "step", "worse", "rewinds", "scale", "kept", "seconds")
        own = {name: getattr(self, name) for name in names}
        return {**own, "position": asdict(self.position), "curve": [_without_nan(check) for check in self.curve]}

    def load(self, facts: Mapping[str, Any]) -> None:
        """Go on from what `to_json` told."""
        for name in ("seen", "step", "worse", "rewinds", "scale", "kept"):
            setattr(self, name, facts[name])
        self.position = Position(**facts["position"])
        self.curve = [Check(**{**check, "valid_auc": _or_nan(check["valid_auc"])}) for check in facts["curve"]]
        self._began = time.perf_counter() - facts["seconds"]


def _rank(auc: float) -> float:
    return auc if math.isfinite(auc) else -math.inf


def _without_nan(check: Check) -> dict[str, Any]:
    """JSON knows no NaN."""
    return {**check.to_json(), "valid_auc": check.valid_auc if math.isfinite(check.valid_auc) else None}


def _or_nan(auc: float | None) -> float:
    return math.nan if auc is None else auc

"""The one training loop: steps, checks on a validation window, early stopping; it knows neither teacher nor student."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from recdistill.config_training import Training
from recdistill.data.batches import Batches
from recdistill.problems import BadInput, problem
from recdistill.train.progress import bar, logger
from recdistill.types import Batch

Losses = Callable[[Batch, float], Mapping[str, Tensor]]
Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One look at the validation window. epoch: a fraction of epochs done. losses: means since the last look."""

    epoch: float
    step: int
    valid_auc: float
    losses: dict[str, float]
    rows_per_s: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The weights of the best check, and all checks."""

    weights: Weights
    curve: tuple[Check, ...]

    @property
    def best(self) -> Check:
        """The check whose weights were kept."""
        return max(self.curve, key=lambda check: _rank(check.valid_auc))


def _rank(auc: float) -> float:
    return auc if math.isfinite(auc) else -math.inf


def train(
    title: str,
    settings: Training,
    batches: Batches,
    *,
    losses: Losses,
    optimisers: Sequence[torch.optim.Optimizer],
    valid_auc: Callable[[], float],
    weights: Callable[[], Weights],
) -> Trained:
    """Minimise losses(batch, progress)["loss"]; progress runs from 0 to 1 over all epochs.

    weights() is called at every check that is the best so far and must return copies. BadInput where the loss is not
    finite: no such weights are ever returned.
    """
    curve: list[Check] = []
    kept: Weights | None = None
    num_rows = len(batches.rows)
    step = worse = 0
    began = time.perf_counter()
    for epoch in range(settings.epochs):
        marks = [num_rows * (part + 1) // settings.checks_per_epoch for part in range(settings.checks_per_epoch)]
        meter = _Meter()
        seen = 0
        with bar(f"{title} {epoch + 1}/{settings.epochs}", num_rows) as shown:
            for batch in batches.epoch(epoch):
                named = losses(batch, (epoch + seen / num_rows) / settings.epochs)
                for optimiser in optimisers:
                    optimiser.zero_grad(set_to_none=True)
                named["loss"].backward()
                for optimiser in optimisers:
                    optimiser.step()
                step += 1
                seen += len(batch)
                meter.add(named, len(batch))
                if step % 20 == 0:
                    shown.advance(meter.take(), loss=meter.mean("loss"), rows_per_s=meter.rows_per_s)
                if seen < marks[0]:
                    continue
                marks.pop(0)
                check = meter.check(title, epoch + seen / num_rows, step, valid_auc(), time.perf_counter() - began)
                shown.advance(meter.take(), loss=check.losses["loss"], rows_per_s=meter.rows_per_s)
                meter = _Meter()
                best = max((_rank(c.valid_auc) for c in curve), default=-math.inf)
                worse = 0 if _rank(check.valid_auc) > best else worse + 1
                if not worse:
                    kept = weights()
                curve.append(check)
                _say(title, settings, check, best=not worse)
                if worse >= settings.patience:
                    return _trained(title, kept, curve)
    return _trained(title, kept, curve)


def _trained(title: str, kept: Weights | None, curve: Sequence[Check]) -> Trained:
    broken = sorted(name for name, value in (kept or {}).items() if not torch.isfinite(value).all())
    if broken or kept is None:
        found = f"others in {', '.join(broken)}" if broken else "no AUC at any check"
        remedy = "lower its learning rates, or look for extreme values in its dense columns"
        raise BadInput(problem(title, wanted="weights of finite numbers", found=found, remedy=remedy))
    return Trained(weights=kept, curve=tuple(curve))


def _say(title: str, settings: Training, check: Check, *, best: bool) -> None:
    parts = ", ".join(f"{name} {value:.4f}" for name, value in check.losses.items())
    logger.info(
        "%s: epoch %.4g of %d, %s, valid auc %.4f%s, %s rows/s, %.0f s",
        title,
        check.epoch,
        settings.epochs,
        parts,
        check.valid_auc,
        " (best)" if best else "",
        f"{check.rows_per_s:,.0f}",
        check.seconds,
    )


class _Meter:
    """Row-weighted means of the losses and the training speed since the last check, without a sync on every step."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.rows = self.untold = 0
        self.began = time.perf_counter()

    def add(self, named: Mapping[str, Tensor], num_rows: int) -> None:
        for name, value in named.items():
            part = value.detach() * num_rows
            self.sums[name] = self.sums[name] + part if name in self.sums else part
        self.rows += num_rows
        self.untold += num_rows

    def take(self) -> int:
        """Rows since the last call."""
        untold, self.untold = self.untold, 0
        return untold

    def mean(self, name: str) -> float:
        """Of one loss so far; waits for the device."""
        return float(self.sums[name]) / self.rows

    @property
    def rows_per_s(self) -> float:
        return self.rows / (time.perf_counter() - self.began)

    def check(self, title: str, epoch: float, step: int, valid_auc: float, seconds: float) -> Check:
        losses = {name: self.mean(name) for name in self.sums}
        if not all(map(math.isfinite, losses.values())):
            remedy = "lower its learning rates, or look for extreme values in its dense columns"
            raise BadInput(problem(f"{title}: step {step}", wanted="a finite loss", found=str(losses), remedy=remedy))
        return Check(
            epoch=round(epoch, 4),
            step=step,
            valid_auc=valid_auc,
            losses=losses,
            rows_per_s=self.rows_per_s,
            seconds=seconds,
        )

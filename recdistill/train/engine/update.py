"""One step of all optimisers: learning rates over time, clipping, moving averages; and their state, there and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from recdistill.config.training import Schedule, Training
from recdistill.train.engine.pieces import Piece, Stored, pieces


def rate(schedule: Schedule, progress: float, warmup: float = 0.0) -> float:
    """The factor of a learning rate at a moment of the training: up from 0 to 1 in the warm-up, then down to 0 at 1.

    cosine: half a cosine, as SGDR's single period (Loshchilov & Hutter 2017, equation 5, with a least rate of 0).

    >>> [rate("linear", progress, warmup=0.2) for progress in (0.0, 0.1, 0.2, 0.6)]
    [0.0, 0.5, 1.0, 0.5]
    """
    if progress < warmup:
        return progress / warmup
    after = (progress - warmup) / (1 - warmup)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * after))
    return 1 - after if schedule == "linear" else 1.0


class Update:
    """One step of all optimisers. The first one is of the dense layers, which alone are warmed up, clipped and
    averaged; any others are of tables.

    The moving average begins as a short one, of n / (9 + n) after n steps, until it is as long as settings.ema says, so
    that it soon forgets the first weights.
    """

    def __init__(self, settings: Training, optimisers: Sequence[torch.optim.Optimizer]) -> None:
        self.settings, self.optimisers = settings, optimisers
        self.rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
        self.dense: list[Tensor] = [p for group in optimisers[0].param_groups for p in group["params"]]
        self.average = [p.detach().clone() for p in self.dense] if settings.ema is not None else []
        self.num_steps = 0

    def __call__(self, loss: Tensor, progress: float, scale: float) -> None:
        """Follow the gradient of a loss. scale: what all learning rates are multiplied by."""
        self._set_rates(progress, scale)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.dense, self.settings.clip_norm)
        for optimiser in self.optimisers:
            optimiser.step()
        self.num_steps += 1
        if self.settings.ema is not None:
            kept = min(self.settings.ema, self.num_steps / (9 + self.num_steps))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.dense], 1 - kept)

    def _set_rates(self, progress: float, scale: float) -> None:
        settings = self.settings
        for place, (optimiser, rates) in enumerate(zip(self.optimisers, self.rates, strict=True)):
            schedule = settings.embedding_schedule if place else settings.schedule
            factor = scale * rate(schedule, progress, 0.0 if place else settings.warmup)
            for group, first in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = first * factor

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The dense layers as their moving average, where there is one."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for kept, parameter in zip(self.average, self.dense[: len(self.average)], strict=True):
            held = parameter.detach().clone()
            parameter.detach().copy_(kept)
            kept.copy_(held)

    def pieces(self) -> list[Piece]:
        """All state, as views of live memory."""
        found = [piece for name, state in self._states() for piece in pieces(state, f"{name}.")]
        return found + self._averages()

    def _averages(self) -> list[Piece]:
        return pieces({f"average.{place}": value for place, value in enumerate(self.average)})

    def _states(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for place, optimiser in enumerate(self.optimisers):
            for key, state in optimiser.state_dict()["state"].items():
                yield f"optimiser.{place}.{key}", state

    def load(self, stored: Stored, step: int) -> None:
        """Put stored state back. BadInput where it is of other optimisers."""
        for place, optimiser in enumerate(self.optimisers):
            if hasattr(optimiser, "set_optimizer_step"):  # TorchRec's: its state is there from the start
                for key, state in optimiser.state_dict()["state"].items():
                    for piece in pieces(state, f"optimiser.{place}.{key}."):
                        stored.fill(piece)
                optimiser.set_optimizer_step(step)
                continue
            state = _by_parameter(stored.wholes(f"optimiser.{place}."))
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        for piece in self._averages():
            stored.fill(piece)
        self.num_steps = step


def _by_parameter(named: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """{"3.exp_avg": ...} -> {3: {"exp_avg": ...}}, as torch's optimisers have it."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, value in named.items():
        number, _, key = name.partition(".")
        found.setdefault(int(number), {})[key] = value
    return found

"""The weights to keep, in memory, for a training too short to be worth a snapshot."""

from __future__ import annotations

from collections.abc import Callable

from recdistill.train.engine.course import Weights
from recdistill.train.engine.state import State


class InMemory:
    """What `Snapshots` does, without a file: there is nothing to go back to."""

    folder = None

    def __init__(self, weights: Callable[[], Weights]) -> None:
        self.weights = weights
        self._kept: Weights = {}

    def due(self, step: int) -> bool:
        return False

    def save(self, state: State) -> None:
        """Never due."""

    def keep(self, step: int) -> str:
        self._kept = self.weights()
        return f"step {step}"

    def kept(self, name: str) -> Weights:
        return self._kept

    def restore(self, state: State) -> bool:
        return False

    def wait(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """Nothing is under way."""

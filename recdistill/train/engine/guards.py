"""What must hold while training: finite losses, weights that do not jump, finite tables; looked at every few steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from recdistill.problems import problem
from recdistill.train.engine.pieces import Piece
from recdistill.train.engine.ranks import any_of
from recdistill.types import Batch

LOOK = 20  # steps between two looks, each of which waits for the device
MAX_JUMP = 10.0
_FEW = 5
_BLOCK = 1 << 20  # rows
REMEDY = "lower its learning rates, or look for extreme values in its dense columns"


class Broken(Exception):
    """Training that has to go back. `problem` is what a person reads where it cannot."""

    def __init__(self, where: str, *, wanted: str, found: str) -> None:
        self.problem = problem(where, wanted=wanted, found=found, remedy=REMEDY)
        super().__init__(self.problem)


class Guard:
    """Watches the losses of all steps and how far the dense layers move, at the price of one sync a look.

    Between two looks the dense layers may move by MAX_JUMP times their own norm (or 1, where that is less): 20 steps of
    Adam at a rate of 0.01 move a layer by at most 0.2 a weight, which is about twice a usual first weight.
    """

    def __init__(self, title: str, dense: Sequence[Tensor], world: int = 1) -> None:
        self.title, self.dense, self.world = title, dense, world
        self.forget()

    def forget(self) -> None:
        """Begin anew, after weights were put back."""
        self.steps: list[tuple[int, Tensor, Tensor]] = []
        self.before = [value.detach().clone() for value in self.dense]

    def note(self, step: int, loss: Tensor, batch: Batch) -> None:
        """Keep a step's loss and row numbers until the next look."""
        self.steps.append((step, loss.detach(), batch.row_id))

    def look(self) -> None:
        """Raise Broken where a step since the last look was not sound, on every rank alike."""
        found = self._loss() or self._jump()
        if any_of(found is not None, self.world):
            raise found or Broken(self.title, wanted="sound steps", found="another process with one that was not")
        self.steps.clear()
        for kept, value in zip(self.before, self.dense, strict=True):
            kept.copy_(value.detach())

    def _loss(self) -> Broken | None:
        losses = torch.stack([loss.float() for _, loss, _ in self.steps]) if self.steps else torch.zeros(0)
        bad = torch.isfinite(losses).logical_not().nonzero().flatten().tolist()
        if not bad:
            return None
        step, loss, rows = self.steps[bad[0]]
        found = f"{float(loss)} over {len(rows)} rows, {_some(rows.tolist())}"
        return Broken(f"{self.title}: step {step}", wanted="a finite loss", found=found)

    def _jump(self) -> Broken | None:
        if not self.steps or not self.before:
            return None
        moved = torch._foreach_sub([value.detach() for value in self.dense], self.before)
        jump = float(_norm(moved) / _norm(self.before).clamp(min=1.0))
        if jump <= MAX_JUMP:  # not of NaN
            return None
        (first, *_), (last, _, rows) = self.steps[0], self.steps[-1]
        where = f"{self.title}: step {first}" if first == last else f"{self.title}: steps {first} to {last}"
        found = f"{jump:.3g} times; the last step was over {len(rows)} rows, {_some(rows.tolist())}"
        return Broken(where, wanted=f"dense layers that move by less than {MAX_JUMP:g} times their norm", found=found)


def _norm(values: Sequence[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(values))))


def not_finite(held: Iterable[Piece]) -> list[str]:
    """A line per tensor with numbers that are not finite: its name and its first bad rows."""
    return [f"{piece.name}: {_some(rows)}" for piece in held if (rows := _bad_rows(piece))]


def _bad_rows(piece: Piece) -> list[int]:
    if not piece.tensor.is_floating_point():
        return []
    rows = piece.tensor.reshape(1 if not piece.tensor.dim() else len(piece.tensor), -1)
    first = piece.offset[0] if piece.offset else 0
    found: list[int] = []
    for start in range(0, len(rows), _BLOCK):
        bad = torch.isfinite(rows[start : start + _BLOCK]).all(dim=1).logical_not()
        found += (bad.nonzero().flatten() + start + first).tolist()
    return found


def _some(rows: Sequence[int]) -> str:
    return f"rows {', '.join(map(str, rows[:_FEW]))}" + (f" and {len(rows) - _FEW} more" if len(rows) > _FEW else "")

"""A recipe makes one loss of targets, terms, selection and schedule: (student, batch, progress) -> named losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from recdistill.distil.multipliers import Multipliers
from recdistill.plugins import Choice, choose
from recdistill.types import Batch, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One weighted objective of a recipe. weight >= 0."""

    objective: Choice
    weight: float

    @property
    def follows_teacher(self) -> bool:
        return "teacher" in self.objective.plugin.needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a student learns from. Only this class reduces and weighs; no objective does."""

    targets: Sequence[Choice]
    terms: Sequence[Term]
    selection: Choice
    schedule: Choice

    @property
    def needs(self) -> frozenset[str]:
        """All that its plug-ins ask for."""
        return frozenset().union(*(choice.plugin.needs for choice in self._choices))

    @property
    def files(self) -> list[Path]:
        """The sources of its plug-ins."""
        return [choice.plugin.path for choice in self._choices]

    @property
    def _choices(self) -> list[Choice]:
        return [*self.targets, *(term.objective for term in self.terms), self.selection, self.schedule]

    def without_teacher(self) -> Recipe:
        """The control's recipe: the label terms alone, scaled to weigh 1 in all; label.bce where there are none."""
        own = [term for term in self.terms if not term.follows_teacher]
        total = sum(term.weight for term in own)
        terms = [replace(term, weight=term.weight / total) for term in own if total > 0]
        constant = choose("schedules", "constant", {})
        selection = choose("selection", "all", {}) if "teacher" in self.selection.plugin.needs else self.selection
        fallback = [Term(objective=choose("objectives", "label.bce", {}), weight=1.0)]
        return Recipe(targets=(), terms=terms or fallback, selection=selection, schedule=constant)

    def losses(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Named losses of one step, scalars; "loss" is the weighted sum to minimise. progress in [0, 1].

        A row objective is averaged over rows by weight. A request objective is averaged over requests, each weighing as
        much as its rows together, so that a row counts the same in a short and in a long list.
        """
        batch = replace(batch, teacher=self._targets(batch.teacher))
        weight_N = batch.weight * self.selection(batch)
        now: Multipliers = self.schedule(progress)
        scores: Scores = student(batch.ids, batch.dense)
        named: dict[str, Tensor] = {}
        total = scores.logit.new_zeros(())
        for term in self.terms:
            value = _mean(term, term.objective(scores, batch.teacher, batch), weight_N, batch)
            named[term.objective.plugin.name] = value.detach()
            total = total + term.weight * (now.teacher if term.follows_teacher else now.label) * value
        return {"loss": total, **named}

    def _targets(self, teacher: Scores | None) -> Scores | None:
        if teacher is None:
            return None
        teacher = teacher.detach()
        for target in self.targets:
            teacher = target(teacher)
        return teacher


def _mean(term: Term, loss: Tensor, weight_N: Tensor, batch: Batch) -> Tensor:
    weight = weight_N
    if "requests" in term.objective.plugin.needs:
        line_N = torch.unique(batch.request, return_inverse=True)[1]
        weight = loss.new_zeros(loss.shape).scatter_add(0, line_N, weight_N)
    return (loss * weight).sum() / weight.sum().clamp_min(1e-12)

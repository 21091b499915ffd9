"""A recipe made ready for one student: (batch, progress) -> named losses. Here alone is weighed and reduced."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from recdistill.distil.facts import Facts
from recdistill.distil.inside import Inside, LiveTeacher, Watched
from recdistill.distil.multipliers import Multipliers
from recdistill.distil.recipe import Recipe, Term
from recdistill.plugins import Choice, Plugin
from recdistill.types import Batch, Scores

INSIDE = frozenset({"blocks", "pooled", "live_teacher"})  # of an objective: it is given an Inside too
Call = Callable[..., Any]


def made(choice: Choice, facts: Facts) -> Call:
    """A plug-in ready to be called: a function with its settings, or an object of a class with facts and settings.

    The settings that it takes at a call are those of a schedule.
    """
    if inspect.isclass(choice.plugin.make):
        kind: Call = choice.plugin.make
        built: Call = kind(facts, **choice.settings)
        return built
    return lambda *values, **scheduled: choice.plugin.make(*values, **{**choice.settings, **scheduled})


def scheduled(plugin: Plugin) -> frozenset[str]:
    """Names of the settings that a schedule may give at a call: a function's own, or those of a class's forward."""
    if not inspect.isclass(plugin.make):
        return frozenset(plugin.parameters)
    call = getattr(plugin.make, "forward", plugin.make.__call__)
    found = inspect.signature(call).parameters.values()
    return frozenset(p.name for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A plug-in as the lesson calls it."""

    plugin: Plugin
    call: Call
    scheduled: frozenset[str]

    def __call__(self, *values: Any, now: Multipliers | None = None) -> Any:
        given = {} if now is None else {k: v for k, v in now.settings.items() if k in self.scheduled}
        return self.call(*values, **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Term:
    name: str
    term: Term
    objective: _Ready
    targets: Sequence[_Ready]
    selection: _Ready
    schedule: _Ready | None

    @property
    def selects_before_the_teacher(self) -> bool:
        return "teacher" not in self.selection.plugin.needs


class Lesson(nn.Module):
    """Weights of the objectives' own (projections, probes) are parameters of this module: trained with the student,
    dropped at export. watched: the student with its inside; None where no objective looks into it. teacher: None
    unless the recipe's is live. parts: the student's parameters in the order in which a schedule may train them alone.
    """

    def __init__(
        self,
        recipe: Recipe,
        facts: Facts,
        *,
        student: nn.Module,
        teacher: LiveTeacher | None = None,
        partner: nn.Module | None = None,
        parts: Sequence[Sequence[nn.Parameter]] = (),
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self._kept: dict[int, _Ready] = {}
        self._objects = nn.ModuleList()
        self._targets = [self._ready(choice, facts) for choice in recipe.targets]
        self._selection = self._ready(recipe.selection, facts)
        self._schedule = self._ready(recipe.schedule, facts)
        self._terms = self._ready_terms(recipe.terms, facts)
        looks = any(INSIDE & term.objective.plugin.needs for term in self._terms)
        self._student = [student]  # in a list: its parameters are not this module's
        self._watched = Watched(student) if looks else None
        self._teacher = teacher
        self._parts = parts
        self._partner = [] if partner is None else [partner]
        self._other = None if recipe.partner is None else Lesson(recipe.partner, facts, student=student)

    def _ready(self, choice: Choice, facts: Facts) -> _Ready:
        call = made(choice, facts)
        if isinstance(call, nn.Module):
            self._objects.append(call)
        return _Ready(choice.plugin, call, scheduled(choice.plugin))

    def _ready_terms(self, terms: Sequence[Term], facts: Facts) -> list[_Term]:
        ready: list[_Term] = []
        for term in terms:
            name = term.objective.plugin.name
            number = 1 + sum(other.term.objective.plugin.name == name for other in ready)
            own = [self._ready(choice, facts) for choice in term.targets]
            ready.append(
                _Term(
                    name=name if number == 1 else f"{name}.{number}",
                    term=term,
                    objective=self._ready(term.objective, facts),
                    targets=own,
                    selection=self._selection if term.selection is None else self._ready(term.selection, facts),
                    schedule=None if term.schedule is None else self._ready(term.schedule, facts),
                )
            )
        return ready

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Named losses of one step, scalars; "loss" is the weighted sum to minimise. progress in [0, 1].

        A row objective is averaged over rows by weight. A request objective is averaged over requests, each weighing as
        much as its rows together, so that a row counts the same in a short and in a long list.
        """
        known_N = ~batch.label.isnan() if self.recipe.unlabelled else None
        batch = batch if known_N is None else replace(batch, label=batch.label.nan_to_num(0.0))
        batch = self.recipe.stress(batch)
        now: Multipliers = self._schedule(progress)
        self._train_only(now.trains)
        inside = None
        if self._watched is None:
            scores = self._student[0](batch.ids, batch.dense)
        else:
            scores, inside = self._watched(batch, self._teacher)
        if not self._partner:
            return self._weigh(scores, batch.teacher, batch, inside, progress, now, known_N)
        partner: Scores = self._partner[0](batch.ids, batch.dense)
        named = self._weigh(scores, partner.detach(), batch, inside, progress, now, known_N)
        assert self._other is not None
        other: Multipliers = self._other._schedule(progress)
        theirs = self._other._weigh(partner, scores.detach(), batch, None, progress, other, known_N)
        loss = named["loss"] + theirs.pop("loss")
        return {**named, "loss": loss, **{f"partner.{name}": value for name, value in theirs.items()}}

    def _weigh(
        self,
        student: Scores,
        teacher: Scores | None,
        batch: Batch,
        inside: Inside | None,
        progress: float,
        now: Multipliers,
        known_N: Tensor | None,
    ) -> dict[str, Tensor]:
        seen = student.detach()
        weights = self._weights_before_the_teacher(seen, batch, progress)
        if self._teacher is not None:
            teacher = self._ask(self._teacher, batch, weights)
        teacher = None if teacher is None else self._edit(teacher.detach(), self._targets, batch, seen, now)
        named: dict[str, Tensor] = {}
        total = student.logit.new_zeros(())
        for place, term in enumerate(self._terms):
            moment = now if term.schedule is None else term.schedule(progress)
            moment = replace(moment, settings={**now.settings, **moment.settings})
            weight_N = weights.get(place)
            if weight_N is None:
                chosen_N = self._select(term.selection, replace(batch, teacher=teacher), seen, progress)
                weight_N = batch.weight * chosen_N
            if known_N is not None and not term.term.follows_teacher:
                weight_N = weight_N * known_N
            target = None if teacher is None else self._edit(teacher, term.targets, batch, seen, moment)
            rows = replace(batch, teacher=target, weight=weight_N)
            extra = (inside,) if INSIDE & term.objective.plugin.needs else ()
            loss = term.objective(student, target, rows, *extra, now=moment)
            value = _mean(term.objective.plugin, loss, weight_N, batch)
            named[term.name] = value.detach()
            follows = term.term.follows_teacher
            total = total + term.term.weight * (moment.teacher if follows else moment.label) * value
        return {"loss": total, **named, **self._metrics()}

    def _weights_before_the_teacher(self, student: Scores, batch: Batch, progress: float) -> dict[int, Tensor]:
        """[N] weights by term, where they do not hang on the teacher; one selection is asked once."""
        found: dict[int, Tensor] = {}
        by_selection: dict[int, Tensor] = {}
        for place, term in enumerate(self._terms):
            if term.selects_before_the_teacher:
                key = id(term.selection)
                if key not in by_selection:
                    by_selection[key] = batch.weight * self._select(term.selection, batch, student, progress)
                found[place] = by_selection[key]
        return found

    def _ask(self, teacher: LiveTeacher, batch: Batch, weights: Mapping[int, Tensor]) -> Scores:
        """The live teacher's scores of the rows that some term learns from; 0 elsewhere."""
        terms = [(place, term) for place, term in enumerate(self._terms) if term.term.follows_teacher]
        together = {"requests", "batch"}
        all_rows = any(place not in weights or together & term.objective.plugin.needs for place, term in terms)
        chosen_N = torch.ones_like(batch.weight, dtype=torch.bool)
        if not all_rows and terms:
            chosen_N = torch.stack([weights[place] > 0 for place, _ in terms]).any(dim=0)
        if bool(chosen_N.all()):
            return teacher.scores(batch).detach()
        part = teacher.scores(_take(batch, chosen_N)).detach()
        hidden = None if part.hidden is None else _spread(part.hidden, chosen_N)
        return Scores(logit=_spread(part.logit, chosen_N), hidden=hidden)

    def _select(self, selection: _Ready, batch: Batch, student: Scores, progress: float) -> Tensor:
        needs = selection.plugin.needs
        extra = [*([student] if "student" in needs else []), *([progress] if "progress" in needs else [])]
        weight: Tensor = selection(batch, *extra)
        return weight

    def _edit(
        self, teacher: Scores, targets: Sequence[_Ready], batch: Batch, student: Scores, now: Multipliers
    ) -> Scores:
        for target in targets:
            extra = [student] if "student" in target.plugin.needs else []
            teacher = target(teacher, batch, *extra, now=now)
        return teacher

    def _train_only(self, parts: Iterable[int] | None) -> None:
        """Parameters of other parts get no gradient, so that no optimiser moves them."""
        for number, part in enumerate(self._parts):
            for parameter in part:
                parameter.requires_grad_(parts is None or number in parts)

    def _metrics(self) -> dict[str, Tensor]:
        """What objectives wish to be logged beside the losses."""
        told = [metrics() for module in self._objects if callable(metrics := getattr(module, "metrics", None))]
        return {name: value for metrics in told for name, value in metrics.items()}


def _mean(plugin: Plugin, loss: Tensor, weight_N: Tensor, batch: Batch) -> Tensor:
    weight = weight_N
    if "requests" in plugin.needs:
        line_N = torch.unique(batch.request, return_inverse=True)[1]
        weight = loss.new_zeros(loss.shape).scatter_add(0, line_N, weight_N)
    return (loss * weight).sum() / weight.sum().clamp_min(1e-12)


def _take(batch: Batch, chosen_N: Tensor) -> Batch:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    taken: dict[str, Any] = {name: v[chosen_N] for name, v in values.items() if isinstance(v, Tensor)}
    return replace(batch, teacher=None, **taken)


def _spread(part: Tensor, chosen_N: Tensor) -> Tensor:
    whole = part.new_zeros((len(chosen_N), *part.shape[1:]))
    whole[chosen_N] = part
    return whole

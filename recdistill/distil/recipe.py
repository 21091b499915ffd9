"""A recipe: targets x terms x selection x schedule, as plug-ins with their settings; lesson.py makes losses of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from recdistill.distil.stress import UNHARMED, Stress
from recdistill.plugins import Choice, choose

Source = Literal["stored", "live", "joint", "self"]
OF_THE_TEACHER = frozenset({"teacher", "live_teacher", "previous", "first_generation", "item_vectors", "student"})
RANKING_ONLY = frozenset(  # what a run of pairs has not
    {"blocks", "pooled", "live_teacher", "previous", "first_generation", "members", "rows"}
)
LIST_ONLY = frozenset({"requests", "labels"})  # a target with one of these leaves no calibrated level to learn


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One weighted objective. weight >= 0. targets: after the recipe's own. selection, schedule: instead of those."""

    objective: Choice
    weight: float
    targets: Sequence[Choice] = ()
    selection: Choice | None = None
    schedule: Choice | None = None

    @property
    def follows_teacher(self) -> bool:
        return "teacher" in self.objective.plugin.needs

    @property
    def choices(self) -> list[Choice]:
        own = [choice for choice in (self.selection, self.schedule) if choice is not None]
        return [self.objective, *self.targets, *own]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a student learns from.

    source: where the teacher's scores come from. partner: what a co-trained teacher learns from, its teacher being the
    student; None where nothing is co-trained. whole_requests: whether a batch holds requests whole; None where the
    plug-ins' needs decide. stress: what is done to the labels of student and control alike. unlabelled: whether there
    are rows with a label of NaN, from which the teacher's terms alone are learned.
    """

    targets: Sequence[Choice]
    terms: Sequence[Term]
    selection: Choice
    schedule: Choice
    source: Source = "stored"
    partner: Recipe | None = None
    whole_requests: bool | None = None
    stress: Stress = UNHARMED
    unlabelled: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """All that its plug-ins ask for, its partner's too."""
        return frozenset().union(*(choice.plugin.needs for choice in self.choices))

    @property
    def files(self) -> list[Path]:
        """The sources of its plug-ins."""
        return [choice.plugin.path for choice in self.choices]

    @property
    def moves(self) -> bool:
        """Whether weights, settings or trained parts change over the training."""
        partner = () if self.partner is None else (self.partner.schedule,)
        own = [term.schedule for term in self.terms if term.schedule is not None]
        return any(choice.plugin.name != "constant" for choice in (self.schedule, *own, *partner))

    @property
    def shuffle(self) -> Literal["rows", "requests"]:
        """What must stay together in a batch."""
        whole = "requests" in self.needs if self.whole_requests is None else self.whole_requests
        return "requests" if whole else "rows"

    @property
    def choices(self) -> list[Choice]:
        """All plug-ins, its partner's too."""
        partner = [] if self.partner is None else self.partner.choices
        own = [choice for term in self.terms for choice in term.choices]
        return [*self.targets, *own, self.selection, self.schedule, *partner]

    def without_teacher(self) -> Recipe:
        """The control's recipe: the label terms alone, scaled to weigh 1 in all; label.bce where there are none.

        So it is for a recipe that has no other terms, which is itself to be compared with. The control sees the same
        batches as the student.
        """
        own: list[Term] = []
        taught = any(term.follows_teacher for term in self.terms)
        for term in self.terms if taught else ():
            if term.follows_teacher or not term.weight:
                continue
            same = next((place for place, other in enumerate(own) if other.objective == term.objective), None)
            if same is None:
                own.append(Term(objective=term.objective, weight=term.weight))
            else:
                own[same] = replace(own[same], weight=own[same].weight + term.weight)
        total = sum(term.weight for term in own)
        fallback = [Term(objective=choose("objectives", "label.bce", {}), weight=1.0)]
        return Recipe(
            targets=(),
            terms=[replace(term, weight=term.weight / total) for term in own] or fallback,
            selection=choose("selection", "all", {})
            if self.selection.plugin.needs & OF_THE_TEACHER
            else self.selection,
            schedule=choose("schedules", "constant", {}),
            whole_requests=self.shuffle == "requests",
            stress=self.stress,
        )

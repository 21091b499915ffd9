"""The recipe section of a run: what the student learns from."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config.choice import PluginChoice
from recdistill.config.pairs import Lists
from recdistill.config.sections import Count, Section
from recdistill.distil.recipe import LIST_ONLY, Recipe, Source, Term
from recdistill.distil.stress import Stress
from recdistill.plugins import Kind


class TargetChoice(PluginChoice):
    kind: ClassVar[Kind] = "targets"


class SelectionChoice(PluginChoice):
    kind: ClassVar[Kind] = "selection"


class ScheduleChoice(PluginChoice):
    kind: ClassVar[Kind] = "schedules"


class TermChoice(PluginChoice):
    kind: ClassVar[Kind] = "objectives"
    weight: Annotated[float, Field(ge=0)] = 1.0
    targets: list[TargetChoice] = []
    """What is done to the teacher's scores for this term alone, after the recipe's own targets."""
    selection: SelectionChoice | None = None
    """Which rows this term learns from; None takes the recipe's."""
    schedule: ScheduleChoice | None = None
    """This term's own weights over the training; None takes the recipe's."""

    def term(self) -> Term:
        return Term(
            objective=self.choice(),
            weight=self.weight,
            targets=[target.choice() for target in self.targets],
            selection=None if self.selection is None else self.selection.choice(),
            schedule=None if self.schedule is None else self.schedule.choice(),
        )


class Partner(Section):
    """A teacher that is trained together with the student: a student model in plain torch, only wider.

    What it learns from is a recipe too, in which the student is the teacher. It is dropped at export.
    """

    times: Count = 4
    """How many times the student's are the widths of its tables, attention and tower."""
    shares_tables: bool = False
    """Whether it reads the student's own tables, which both then train; they keep the student's width."""
    terms: Annotated[list[TermChoice], Field(min_length=1)]
    selection: SelectionChoice = SelectionChoice(use="all")
    schedule: ScheduleChoice = ScheduleChoice(use="constant")


class Shape(Section):
    """How the student of this recipe differs from the one that the run describes; the control never differs."""

    history: Literal["attention", "mean"] = "attention"
    """mean: every past event weighs the same, so that no branch multiplies fields."""
    depth: Count = 1
    """How many times every layer of its tower stands in a row."""
    assistant: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of every width that is carved out for an assistant, whose logit is added to the student's."""
    memory: Count | None = None
    """How wide a vector of what the teacher has thought of an item stands beside each past event: see memory.py."""


class StressSection(Section):
    """What is done to the training labels of student and control alike, for studies."""

    flip_positives: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the positives whose label becomes 0."""
    keep_positives: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the positives that are learned from at all."""


class RecipeSection(Section):
    """What the student learns from: targets x terms x selection x schedule; `recipe: NAME` reads recipes/NAME.yaml."""

    teacher: Source = "stored"
    """stored: the score store. live: the frozen teacher in every step. joint: `partner`, trained along. self: a student
    of the same seed that was trained without a teacher."""
    scores: Literal["in_sample", "out_of_fold"] = "in_sample"
    """Of stored: whether the teacher had seen the rows that it scores."""
    previous: str | None = None
    """The folder of an earlier run of the same student, for what looks at how the teacher moved since."""
    init: Literal["fresh", "teacher_pca"] = "fresh"
    """What the student's tables begin as: random, or the teacher's, projected on their principal components; with
    data.pairs, such that its scores are as close to the teacher's as its width allows."""
    privileged: bool = False
    """Whether the teacher is to read columns that the student never gets: features of serve: never. Refused without."""
    trains_tables: bool = True
    """Whether the tables go on learning; false needs init: teacher_pca. With data.pairs there is nothing else to learn,
    and the student is what it begins as."""
    student: Shape = Shape()
    partner: Partner | None = None
    targets: list[TargetChoice] = []
    terms: Annotated[list[TermChoice], Field(min_length=1)]
    selection: SelectionChoice = SelectionChoice(use="all")
    schedule: ScheduleChoice = ScheduleChoice(use="constant")
    unlabelled: bool = False
    """Whether the candidates that the score step stored are learned from too (score.candidates), by the teacher's terms
    alone, in the requests that they belong to."""
    lists: Lists = Lists()
    """Of a run with data.pairs: what the terms with a teacher learn from."""
    stress: StressSection = StressSection()
    sweep: dict[str, list[Any]] = {}
    """Settings that a comparison tries one by one: {targets.0.sigma: [0.5, 1, 2]}."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = [*self._lacks(), *self._bends()]
        if problems:
            raise PydanticCustomError("recipe", "{problems}", {"problems": "; ".join(problems)})
        return self

    def _lacks(self) -> list[str]:
        """Needs that these settings do not give."""
        needs, found = self.recipe().needs, []
        if "live_teacher" in needs and self.teacher != "live":
            found.append(f"wanted teacher: live for {self._who('live_teacher')}, found {self.teacher}")
        if "first_generation" in needs and self.teacher == "self":
            who = self._who("first_generation")
            found.append(f"wanted another teacher beside the student's first generation for {who}")
        if "previous" in needs and self.previous is None:
            found.append(f"wanted previous: the folder of an earlier run for {self._who('previous')}, found none")
        if (self.teacher == "joint") != (self.partner is not None):
            found.append("wanted teacher: joint and a partner together, found one of them")
        if not self.trains_tables and self.init == "fresh":
            found.append("wanted init: teacher_pca beside trains_tables: false, found fresh tables")
        if "members" in needs and self.teacher != "stored":
            found.append(f"wanted teacher: stored for {self._who('members')}, found {self.teacher}")
        if self.student.assistant is not None and needs & {"blocks", "pooled"}:
            found.append(f"wanted a student without assistant for {self._who('blocks', 'pooled')}")
        if self.unlabelled and (self.teacher == "self" or "labels" in needs):
            found.append(
                "wanted unlabelled: true with a teacher that knows such rows and no edit by label, found otherwise"
            )
        if not sum(term.weight for term in self.terms):
            found.append("wanted a term with a weight above 0")
        return found

    def _bends(self) -> list[str]:
        """Targets that leave no calibrated level, in front of a term that learns the level."""
        found = []
        for term in self.terms:
            before = [target for target in (*self.targets, *term.targets) if target.choice().plugin.needs & LIST_ONLY]
            if before and term.use.startswith("point."):
                names = ", ".join(target.use for target in before)
                found.append(
                    f"wanted {term.use} to learn calibrated scores, found {names} before it, which edits them by label "
                    "or request; use a list term"
                )
        return found

    def _who(self, *needs: str) -> str:
        names = {choice.plugin.name for choice in self.recipe().choices if choice.plugin.needs & set(needs)}
        return ", ".join(sorted(names))

    def recipe(self) -> Recipe:
        """The plug-ins themselves."""
        partner = self.partner
        return Recipe(
            targets=[choice.choice() for choice in self.targets],
            terms=[term.term() for term in self.terms],
            selection=self.selection.choice(),
            schedule=self.schedule.choice(),
            source=self.teacher,
            unlabelled=self.unlabelled,
            whole_requests=True if self.unlabelled else None,
            partner=None if partner is None else _partner(partner),
            stress=Stress(flip=self.stress.flip_positives, keep=self.stress.keep_positives),
        )


def _partner(partner: Partner) -> Recipe:
    return Recipe(
        targets=(),
        terms=[term.term() for term in partner.terms],
        selection=partner.selection.choice(),
        schedule=partner.schedule.choice(),
    )

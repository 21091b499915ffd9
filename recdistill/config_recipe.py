"""The recipe section of a run: what the student learns from."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config_choice import PluginChoice
from recdistill.distil.recipe import Recipe, Term
from recdistill.plugins import Kind
from recdistill.sections import Section


class TargetChoice(PluginChoice):
    kind: ClassVar[Kind] = "targets"


class TermChoice(PluginChoice):
    kind: ClassVar[Kind] = "objectives"
    weight: Annotated[float, Field(ge=0)] = 1.0


class SelectionChoice(PluginChoice):
    kind: ClassVar[Kind] = "selection"


class ScheduleChoice(PluginChoice):
    kind: ClassVar[Kind] = "schedules"


class RecipeSection(Section):
    """What the student learns from: targets x terms x selection x schedule; `recipe: NAME` reads recipes/NAME.yaml."""

    targets: list[TargetChoice] = []
    terms: Annotated[list[TermChoice], Field(min_length=1)]
    selection: SelectionChoice = SelectionChoice(use="all")
    schedule: ScheduleChoice = ScheduleChoice(use="constant")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        impossible = sorted(self.recipe().needs & {"hidden", "live_teacher", "item_popularity"})
        if impossible:
            raise PydanticCustomError(
                "needs",
                "wanted a recipe that runs on stored logits, found needs {needs}",
                {"needs": str(impossible)},
            )
        if not sum(term.weight for term in self.terms):
            raise PydanticCustomError("no_weight", "wanted a term with a weight above 0")
        return self

    def recipe(self) -> Recipe:
        """The plug-ins themselves."""
        return Recipe(
            targets=[choice.choice() for choice in self.targets],
            terms=[Term(objective=term.choice(), weight=term.weight) for term in self.terms],
            selection=self.selection.choice(),
            schedule=self.schedule.choice(),
        )

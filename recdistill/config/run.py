"""A run as frozen sections: every setting, its meaning and its default. Unknown keys are errors."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config.data import Data, Split
from recdistill.config.export import Export
from recdistill.config.features import Features
from recdistill.config.gates import ITEM_KINDS, KINDS, Gates
from recdistill.config.monitor import Monitor
from recdistill.config.pairs import PAIR_METRICS, is_pairs, with_defaults
from recdistill.config.recipe import RecipeSection, TermChoice
from recdistill.config.score import Score
from recdistill.config.sections import Count, Name, Section
from recdistill.config.student import Student, TwoTower
from recdistill.config.teacher import Teacher
from recdistill.config.unfit import unfit_for_pairs
from recdistill.config.windows import Windows


class Evaluate(Section):
    draws: Count = 1000
    """Bootstrap draws of users (and of seeds) behind every interval."""
    at: Annotated[list[Count], Field(min_length=1)] = [10, 50]
    """Of a run with data.pairs: lengths of the lists that are judged."""
    negatives: Count | None = None
    """Of a run with data.pairs: rank a user's test items among so many drawn ones; None ranks them among all."""
    ndcg_by: Literal["request", "user"] = "request"


class Registry(Section):
    tracking_uri: str = Field(default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///runs/mlflow.db"))
    """Not given: MLFLOW_TRACKING_URI, as a stack's worker has it, else a file."""
    artifacts: str | None = "runs/mlflow-artifacts"
    """Where a new experiment keeps its artifacts; None leaves it to the tracking server."""
    experiment: Name | None = None
    """None takes the run's name."""
    model: Name | None = None
    """Registered model; None takes NAME-student."""
    on_pass: Literal["champion", "challenger"] = "champion"
    """What a candidate becomes that passes its gates: a challenger waits for `recdistill promote`."""


class Run(Section):
    """A whole run: from a log to a promoted student."""

    name: Name
    root: str | None = None
    """Folder of everything that the run writes; None is runs/NAME."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count | None = None
    """CPU threads of torch and onnxruntime; None leaves it to them."""
    data: Data
    features: Features
    teacher: Teacher = Teacher()
    score: Score = Score()
    student: Student = Student()
    recipe: RecipeSection = RecipeSection(
        terms=[TermChoice(use="label.bce", weight=0.2), TermChoice(use="point.soft_bce", weight=0.8)]
    )
    export: Export = Export()
    evaluate: Evaluate = Evaluate()
    gates: Gates = Gates()
    registry: Registry = Registry()
    monitor: Monitor = Monitor()
    windows: Windows | None = None
    """Retraining window by window, see docs/operations.md; None takes data.start to data.end."""

    @model_validator(mode="before")
    @classmethod
    def _pairs(cls, tree: Any) -> Any:
        return with_defaults(tree) if is_pairs(tree) else tree

    @model_validator(mode="after")
    def _no_leak(self) -> Self:
        ids, dense = self.features.ids, self.features.dense
        names = [column for spec in ids for column in spec.columns]
        names += [spec.column for spec in dense]
        for whose, outcome in [("label", self.data.label), *((f"task {task.name}", task) for task in self.data.tasks)]:
            if outcome.column in names:
                message = "features: wanted columns known before the outcome, found the {whose}'s own {column}"
                raise PydanticCustomError("leak", message, {"whose": whose, "column": outcome.column})
        return self

    @model_validator(mode="after")
    def _metric_of_its_shape(self) -> Self:
        only_pairs = set(PAIR_METRICS) - {"ndcg_at_10"}
        named = {self.gates.metric, *self.gates.floors}
        wrong = sorted(named - set(PAIR_METRICS) if self.data.pairs else named & only_pairs)
        if wrong:
            shape = "with" if self.data.pairs else "without"
            message = "gates: wanted metrics of a run {shape} data.pairs, found {found}"
            raise PydanticCustomError("metric", message, {"shape": shape, "found": ", ".join(wrong)})
        return self

    @model_validator(mode="after")
    def _what_pairs_know(self) -> Self:
        found = unfit_for_pairs(self.recipe, self.teacher, self.student) if self.data.pairs else []
        if found:
            raise PydanticCustomError("pairs", "{problems}", {"problems": "; ".join(found)})
        return self

    @model_validator(mode="after")
    def _student_columns(self) -> Self:
        known = set(self.features.titles)
        tables = {spec.table or spec.title for spec in self.features.ids}
        outcomes = self.features.history.outcomes if self.features.history else []
        tables |= {name for name in outcomes if name not in known}
        side = self.student.interaction.user if isinstance(self.student.interaction, TwoTower) else []
        for where, names, wanted in (
            ("without", self.student.without, known),
            ("interaction.user", side, known),
            ("tables", self.student.tables, tables),
        ):
            unknown = sorted(set(names) - wanted)
            if unknown:
                kind = "tables of features" if where == "tables" else "features"
                context = {"where": where, "kind": kind, "found": str(unknown)}
                message = "student.{where}: wanted names of {kind}, found {found}"
                raise PydanticCustomError("unknown_column", message, context)
        return self

    @model_validator(mode="after")
    def _slices(self) -> Self:
        known = {*KINDS, *self.features.titles} - (ITEM_KINDS if self.features.history is None else set())
        unknown = sorted(set(self.gates.slices) - known)
        if unknown:
            message = "gates.slices: wanted features, {kinds} (of items: with features.history), found {found}"
            raise PydanticCustomError("slices", message, {"kinds": ", ".join(KINDS), "found": ", ".join(unknown)})
        return self

    @model_validator(mode="after")
    def _two_sides(self) -> Self:
        if not isinstance(self.student.interaction, TwoTower):
            return self
        user, history = set(self.student.interaction.user), self.features.history
        read = set(self.features.titles) - set(self.student.without) - self.features.privileged
        if not read - user or (history is not None and history.item in user):
            message = "student.interaction.user: wanted the user's features and not the item's, found {found}"
            raise PydanticCustomError("sides", message, {"found": str(sorted(user))})
        return self

    @model_validator(mode="after")
    def _hidden_vectors(self) -> Self:
        stored = self.recipe.teacher == "stored" and self.score.hidden == "none" and self.data.pairs is None
        wanted = "hidden" in self.recipe.recipe().needs or self.recipe.student.memory is not None
        if stored and wanted:
            message = (
                "recipe: wanted the teacher's hidden vectors, found score.hidden: none; "
                "set score.hidden to float16 or int8, or recipe.teacher to live"
            )
            raise PydanticCustomError("hidden", message)
        return self

    @model_validator(mode="after")
    def _stored_members(self) -> Self:
        if "members" in self.recipe.recipe().needs and not self.score.members and self.data.pairs is None:
            message = (
                "recipe: wanted the logits of the teacher's members, found score.members: false; "
                "set it to true, and teacher.members or teacher.ensemble to several"
            )
            raise PydanticCustomError("members", message)
        return self

    @model_validator(mode="after")
    def _privileged(self) -> Self:
        """What the student must not see is neither missing nor a column that it reads under another name."""
        never = self.features.privileged
        if self.recipe.privileged and not never:
            message = (
                "recipe.privileged: wanted features that the teacher alone reads, found none; mark some serve: never"
            )
            raise PydanticCustomError("privileged", message)
        specs = [(spec.title, spec.columns) for spec in self.features.ids]
        specs += [(spec.title, [spec.column]) for spec in self.features.dense]
        hidden = {column for title, columns in specs if title in never for column in columns}
        read = [(title, sorted(hidden & set(columns))) for title, columns in specs if title not in never]
        if self.recipe.privileged and (seen := [f"{', '.join(both)} in {title}" for title, both in read if both]):
            message = "recipe.privileged: wanted no column of serve: never in the student's graph, found {found}"
            raise PydanticCustomError("privileged", message, {"found": "; ".join(seen)})
        return self

    @model_validator(mode="after")
    def _windows_alone(self) -> Self:
        if self.windows is None:
            return self
        wrong = [f"data.{name}" for name in ("start", "end", "manifest") if getattr(self.data, name) is not None]
        wrong += [] if self.data.split == Split(embargo=self.data.split.embargo) else ["data.split"]
        wrong += [] if self.data.partition is not None else ["no data.partition"]
        if wrong:
            message = "windows: wanted data.partition, and no other window beside it, found {found}"
            raise PydanticCustomError("windows", message, {"found": ", ".join(wrong)})
        return self

    @model_validator(mode="after")
    def _task_weights(self) -> Self:
        wanted = 1 + len(self.data.tasks)
        found = {len(teacher.task_weight) for teacher in self.teacher.every_kind} - {0, wanted}
        if found:
            raise PydanticCustomError(
                "task_weight",
                "teacher.task_weight: wanted {wanted} (data.label and each of data.tasks) or none, found {found}",
                {"wanted": wanted, "found": ", ".join(map(str, sorted(found)))},
            )
        return self

    @property
    def folder(self) -> str:
        return self.root or f"runs/{self.name}"

    @property
    def experiment(self) -> str:
        return self.registry.experiment or self.name

    @property
    def model(self) -> str:
        return self.registry.model or f"{self.name}-student"

    def section(self, *names: str) -> dict[str, Any]:
        """The named sections as JSON, for digests."""
        dumped = self.model_dump(mode="json")
        return {name: dumped[name] for name in names}

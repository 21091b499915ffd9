"""A run as frozen sections: every setting, its meaning and its default. Unknown keys are errors."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config_data import Data
from recdistill.config_features import Features
from recdistill.distil.plugins import Kind, find, load
from recdistill.distil.recipe import Choice, Recipe, Term
from recdistill.problems import guess
from recdistill.sections import Count, Name, Positive, Section

Metric = Literal["auc", "gauc", "ndcg_at_10"]


class Training(Section):
    """What training a teacher and a student have in common."""

    epochs: Count = 5
    batch_size: Count = 2048
    learning_rate: Positive
    """Of the dense layers (Adam)."""
    embedding_learning_rate: Positive
    """Of the embedding tables (row-wise Adagrad)."""
    checks_per_epoch: Count = 1
    """How often the validation AUC is taken; the best weights are kept."""
    patience: Count = 1
    """Stop after this many checks in a row without a better validation AUC."""


class Teacher(Training):
    learning_rate: Positive = 2e-3
    embedding_learning_rate: Positive = 0.1
    width: Count = 32
    """Embedding width of every table."""
    attention: Count = 64
    """Hidden units of the target attention over the history."""
    cross_layers: Annotated[int, Field(ge=0)] = 2
    tower: list[Count] = [256, 128]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bf16: Literal["auto", "on", "off"] = "auto"
    """Autocast of the dense layers; auto takes it where the device computes in bf16."""


class Student(Training):
    learning_rate: Positive = 3e-3
    embedding_learning_rate: Positive = 0.1
    width: Count = 4
    attention: Count = 16
    tower: list[Count] = [64, 32]
    history_length: Count | None = None
    """How much of the history it looks at; None takes all of it."""
    without: list[str] = []
    """Features that the student does not read, beside those that cannot be had when serving."""
    seeds: Count = 3
    """How many students, and as many controls, are trained; the best on the validation window ships."""


class PluginChoice(Section):
    """`use` names the plug-in; its own settings stand beside it. A plain string is the name alone."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: ClassVar[Kind]
    use: str

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        known = list(find(self.kind))
        if self.use not in known:
            remedy = guess(self.use, known) or "`recdistill recipes` lists them"
            context = {"kind": self.kind, "known": ", ".join(known), "found": self.use, "remedy": remedy}
            raise PydanticCustomError("plugin", "wanted one of {kind} ({known}), found '{found}'; {remedy}", context)
        try:
            self.choice()
        except ValidationError as error:
            found = ", ".join(f"{'.'.join(map(str, e['loc']))} ({e['msg']})" for e in error.errors())
            takes = ", ".join(load(self.kind, self.use).parameters) or "none"
            context = {"use": self.use, "takes": takes, "found": found}
            message = "wanted settings of {use}, which takes {takes}, found {found}; mend or drop them"
            raise PydanticCustomError("settings", message, context) from None
        return self

    def choice(self) -> Choice:
        """The plug-in itself, with its settings."""
        plugin = load(self.kind, self.use)
        return Choice(plugin=plugin, settings=plugin.settings(self.model_extra or {}))


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


class Evaluate(Section):
    draws: Count = 1000
    """Bootstrap draws of users (and of seeds) behind every interval."""
    ndcg_by: Literal["request", "user"] = "request"


class Gates(Section):
    """What a candidate must show before it may become champion; intervals are 95%, over users and seeds."""

    metric: Metric = "auc"
    """The metric of the comparisons with control and champion."""
    floors: dict[Metric, float] = {"auc": 0.5}
    """Least values of the shipped student."""
    control_margin: float = 0.0
    """The low end of student - control must be above this."""
    champion_margin: Annotated[float, Field(ge=0)] = 0.002
    """The low end of shipped student - champion, on the same rows, must be above minus this."""
    max_ece: Positive = 0.05
    max_parameter_share: Positive = 0.125
    """Parameters of the student over those of the teacher."""
    max_drift: Positive | None = None
    """Greatest population stability index of any feature between train and test window; None does not look."""
    max_unknown: Annotated[float, Field(ge=0, le=1)] | None = None
    """Greatest share of out-of-vocabulary values of any id feature in the test window; None does not look."""


class Registry(Section):
    tracking_uri: str = "sqlite:///runs/mlflow.db"
    artifacts: str | None = "runs/mlflow-artifacts"
    """Where a new experiment keeps its artifacts; None leaves it to the tracking server."""
    experiment: Name | None = None
    """None takes the run's name."""
    model: Name | None = None
    """Registered model; None takes NAME-student."""


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
    student: Student = Student()
    recipe: RecipeSection = RecipeSection(
        terms=[TermChoice(use="label.bce", weight=0.2), TermChoice(use="point.soft_bce", weight=0.8)]
    )
    evaluate: Evaluate = Evaluate()
    gates: Gates = Gates()
    registry: Registry = Registry()

    @model_validator(mode="after")
    def _no_leak(self) -> Self:
        ids, dense = self.features.ids, self.features.dense
        names = [column for spec in ids for column in spec.columns]
        names += [spec.column for spec in dense]
        if self.data.label.column in names:
            raise PydanticCustomError(
                "leak",
                "features: wanted columns known before the outcome, found the label's own {column}",
                {"column": self.data.label.column},
            )
        return self

    @model_validator(mode="after")
    def _student_columns(self) -> Self:
        features = self.features
        known = set(features.titles)
        unknown = sorted(set(self.student.without) - known)
        if unknown:
            raise PydanticCustomError(
                "unknown_column",
                "student.without: wanted names of features, found {found}",
                {"found": str(unknown)},
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

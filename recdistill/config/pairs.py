"""What a run in the shape of pairs says beside its other sections: the log of positives, its models, its lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config.sections import Count, Positive, Section

PairMetric = Literal[
    "recall_at_10", "recall_at_50", "ndcg_at_10", "ndcg_at_50", "hit_rate_at_10", "hit_rate_at_50", "mrr"
]
PAIR_METRICS: tuple[str, ...] = get_args(PairMetric)
NotNegative = Annotated[int, Field(ge=0)]


class PairFiles(Section):
    """Which files of the log are which window: patterns of names under data.source."""

    train: str
    valid: str
    test: str


class Pairs(Section):
    """A log of (data.user, item) positives alone; a pair that stands twice counts once, at its first time.

    data.time and data.label may be left out; with label.at_least the rows below it are not positives. data.split.train
    and valid are the shares.
    """

    item: str
    """The column of what was acted on."""
    core: Count = 1
    """Users and items with fewer positives are left out, again and again until all have as many."""
    split: Literal["ratio", "time", "leave_one_out", "files"] = "ratio"
    """ratio: shares of each user's positives, at random. time: windows of the whole log, as in data.split.
    leave_one_out: each user's last positive is the test window, the one before it the validation window; at random
    without a time."""
    files: PairFiles | None = None

    @model_validator(mode="after")
    def _files(self) -> Self:
        if (self.split == "files") != (self.files is not None):
            message = "wanted split: files and files together, found one of them"
            raise PydanticCustomError("files", message)
        return self


class PairModel(Section):
    """What a teacher or student is made of; its width, epochs, batch_size and learning_rate stand beside this."""

    use: Literal["mf", "lightgcn"] = "mf"
    layers: Count = 2
    """Of lightgcn: how often vectors go along the graph."""
    loss: Literal["bpr", "softmax", "bce"] = "bpr"
    """What label.bce in a recipe stands for."""
    negatives: Count | Literal["all"] = 1
    """How many items are drawn for each positive, of those that the user did not act on. all: every one of them, of
    softmax alone; a step is then of whole users, and a teacher's width costs little."""
    temperature: Positive = 1.0
    """Of softmax."""
    decay: Annotated[float, Field(ge=0)] = 0.0
    """Half of this times the mean squared length of a step's vectors is added to the loss: for a positive its user's,
    its item's and those of what was drawn for it (negatives: all draws nothing)."""
    init: Positive = 0.1
    """Standard deviation of the first vectors' numbers."""

    @model_validator(mode="after")
    def _all(self) -> Self:
        if self.negatives == "all" and self.loss != "softmax":
            raise PydanticCustomError("negatives", "wanted loss: softmax beside negatives: all")
        return self


class Lists(Section):
    """What a user's list holds, from which a recipe's terms with a teacher learn; each item stands in it once."""

    teacher_top: NotNegative = 50
    """The first of the teacher's stored list, without train positives."""
    sampled: Positive | None = None
    """Draw those rows out of the stored list by exp(-place * sampled); None takes the first."""
    student_top: NotNegative = 0
    """The first of the student's own list, taken anew at the start of every epoch."""
    random: NotNegative = 50
    """Drawn alike out of all items that are no train positives of the user."""
    positives: NotNegative = 0
    """Drawn from the user's train positives."""
    users: Count = 512
    """How many users of a step get a list."""


def with_defaults(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A run's sections with what the shape of pairs takes for granted, where the config does not say otherwise."""
    data = dict(tree["data"])
    data = {"time": "", "label": {"column": ""}, **data}
    features = {"ids": [data.get("user", ""), data["pairs"].get("item", "")]}
    gates = {"metric": "recall_at_10", "floors": {}, "max_ece": None, **tree.get("gates", {})}
    return {"features": features, **tree, "data": data, "gates": gates}


def is_pairs(tree: Any) -> bool:
    """Whether a run's sections, as read, are of this shape."""
    data = tree.get("data") if isinstance(tree, dict) else None
    return isinstance(data, dict) and isinstance(data.get("pairs"), dict)

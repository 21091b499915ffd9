"""The teacher section of a run: what the teacher is made of and how it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config.choice import PluginChoice
from recdistill.config.pairs import PairModel
from recdistill.config.sections import Count, Positive, Section
from recdistill.config.training import Training
from recdistill.plugins import Kind

DenseOptimiser = Literal["adam", "adamw"]
ShardingKind = Literal["table_wise", "row_wise", "column_wise", "data_parallel"]
EmbeddingOptimiser = Literal["rowwise_adagrad", "adagrad", "sgd", "adam", "partial_rowwise_adam"]
_OF_ALL = frozenset({"ensemble", "members", "combine", "folds", "ranks", "hosts", "restarts"})


class HistoryChoice(PluginChoice):
    kind: ClassVar[Kind] = "history"


class InteractionChoice(PluginChoice):
    kind: ClassVar[Kind] = "interaction"


class HeadChoice(PluginChoice):
    kind: ClassVar[Kind] = "heads"


class Folds(Section):
    """Cross-fitting: the train window in so many parts."""

    count: Annotated[int, Field(ge=2)] = 3
    by: Literal["user", "time"] = "user"
    """All rows of a user in one part, or as many rows in each stretch of time."""


class Teacher(Training):
    HARMLESS: ClassVar[frozenset[str]] = Training.HARMLESS | _OF_ALL | {"sharding"}

    learning_rate: Positive = 2e-3
    embedding_learning_rate: Positive = 0.1
    width: Count = 32
    """Embedding width of every table."""
    history: HistoryChoice = HistoryChoice(use="target_attention")
    """How a history becomes one vector: a file of models/history/."""
    interaction: InteractionChoice = InteractionChoice(use="dcnv2")
    """How the fields meet: a file of models/interaction/."""
    head: HeadChoice = HeadChoice(use="single")
    """How the logits are made of what comes out, one per task of the data: a file of models/heads/."""
    pairs: PairModel = PairModel()
    """What it is made of where data.pairs is given."""
    task_weight: list[Annotated[float, Field(ge=0)]] = []
    """Weights of the tasks' losses, data.label's first; empty is 1 for each."""
    bf16: Literal["auto", "on", "off"] = "auto"
    """Autocast of the dense layers; auto takes it where the device computes in bf16."""
    optimiser: DenseOptimiser = "adam"
    """Of the dense layers."""
    embedding_optimiser: EmbeddingOptimiser = "rowwise_adagrad"
    """Of the tables, fused into the backward pass; adam and partial_rowwise_adam need CUDA."""
    accumulate: Count = 1
    """Parts that the dense layers compute a batch in, one after the other: the step is that of the whole batch, the
    activations in memory are those of one part, and the price is another forward pass."""
    one_pass: bool = False
    """Read every row once, in the order of the log, each scored before it is learnt from; the last weights are kept."""
    warm_start: str | None = None
    """The folder of an earlier train_teacher step, whose weights are the first ones; None draws them."""
    ranks: Count = 1
    """Processes on each host that share every batch and the tables, started by torchrun where there are several."""
    hosts: Count = 1
    """Hosts that train together; RECDISTILL_RENDEZVOUS says where they meet: see docs/scaling.md."""
    restarts: Annotated[int, Field(ge=0)] = 3
    """How often several processes begin again, from the last snapshot, when one of them died."""
    sharding: Annotated[list[ShardingKind], Field(min_length=1)] = ["table_wise", "row_wise", "column_wise"]
    """How tables may be spread over processes; the planner takes the fastest for each. data_parallel copies a table of
    pooled features to every process, with the optimiser of the dense layers."""
    communication: Literal["fp32", "fp16", "int8"] = "fp32"
    """What embeddings are sent as between processes; gradients go back in fp16 where it is not fp32. int8 wants a width
    that is a multiple of 32, and no table is cut into columns with it."""
    members: Count = 1
    """Teachers of different seeds whose logits are averaged."""
    ensemble: list[dict[str, Any]] = []
    """Overrides of this section, each a teacher of its own, `members` of each; empty is this one alone."""
    combine: Literal["mean", "gated"] = "mean"
    """Members weigh alike, or as fits the validation window best."""

    folds: Folds | None = None
    """Teachers beside, each trained without a part of the train window and asked only about that part: out-of-fold
    scores, which no memory of a row's own label sharpens."""

    @property
    def every_kind(self) -> list[Teacher]:
        """The teachers that differ in more than the seed."""
        if not self.ensemble:
            return [self]
        own = self.model_dump(mode="json", exclude={"ensemble", "members", "combine", "folds"}, exclude_unset=True)
        return [type(self).model_validate({**own, **override}) for override in self.ensemble]

    @property
    def num_processes(self) -> int:
        return self.ranks * self.hosts

    @model_validator(mode="after")
    def _members(self) -> Self:
        for place, override in enumerate(self.ensemble):
            if wrong := sorted(_OF_ALL & override.keys()):
                message = "ensemble.{place}: wanted settings of one teacher, found {wrong}; set them for all"
                raise PydanticCustomError("ensemble", message, {"place": place, "wrong": ", ".join(wrong)})
        try:
            assert self.every_kind
        except ValidationError as error:
            context = {"found": "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())}
            message = "ensemble: wanted settings of a teacher, found {found}"
            raise PydanticCustomError("ensemble", message, context) from None
        if self.communication == "int8" and self.width % 32:
            message = "width: wanted a multiple of 32 beside communication: int8, found {found}"
            raise PydanticCustomError("width", message, {"found": str(self.width)})
        if self.batch_size % self.num_processes:
            context = {"size": str(self.batch_size), "num": str(self.num_processes)}
            message = "batch_size: wanted a multiple of ranks x hosts = {num}, found {size}"
            raise PydanticCustomError("batch_size", message, context)
        return self

    @model_validator(mode="after")
    def _one_pass(self) -> Self:
        if self.one_pass and self.epochs != 1:
            message = "epochs: wanted 1 beside one_pass, found {found}; write epochs: 1"
            raise PydanticCustomError("one_pass", message, {"found": str(self.epochs)})
        return self

    @property
    def files(self) -> list[Path]:
        """The sources of its plug-ins."""
        chosen = [choice for kind in self.every_kind for choice in (kind.history, kind.interaction, kind.head)]
        return list(dict.fromkeys(choice.choice().plugin.path for choice in chosen))

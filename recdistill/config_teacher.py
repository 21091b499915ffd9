"""The teacher section of a run: what the teacher is made of and how it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from recdistill.config_choice import PluginChoice
from recdistill.config_training import Training
from recdistill.plugins import Kind
from recdistill.sections import Count, Positive


class HistoryChoice(PluginChoice):
    kind: ClassVar[Kind] = "history"


class InteractionChoice(PluginChoice):
    kind: ClassVar[Kind] = "interaction"


class HeadChoice(PluginChoice):
    kind: ClassVar[Kind] = "heads"


class Teacher(Training):
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
    task_weight: list[Annotated[float, Field(ge=0)]] = []
    """Weights of the tasks' losses, data.label's first; empty is 1 for each."""
    bf16: Literal["auto", "on", "off"] = "auto"
    """Autocast of the dense layers; auto takes it where the device computes in bf16."""

    @property
    def files(self) -> list[Path]:
        """The sources of its plug-ins."""
        return [choice.choice().plugin.path for choice in (self.history, self.interaction, self.head)]

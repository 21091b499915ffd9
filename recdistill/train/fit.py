"""One teacher trained on the labels of the train window, in one process or in this one of several."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.config_teacher import Teacher
from recdistill.data.batches import Batches
from recdistill.data.store import open_rows
from recdistill.models.teacher import TeacherModel
from recdistill.train.device import use_bf16
from recdistill.train.loop import Trained, train
from recdistill.train.predict import auc_on
from recdistill.train.shard import World, dense_parameters, plain_state, shard
from recdistill.types import Batch, Layout


def fit_teacher(title: str, settings: Teacher, seed: int, prepared: Path, world: World) -> Trained:
    """The weights of the best validation AUC. prepared: the folder of the prepare step."""
    rows = {name: open_rows(prepared, name) for name in ("train", "valid")}
    device = world.device
    torch.manual_seed(seed)
    batches = Batches(rows=rows["train"], batch_size=settings.batch_size, shuffle="rows", seed=seed)
    model = shard(build_teacher(settings, rows["train"].layout), device, settings.embedding_learning_rate)
    bf16 = use_bf16(settings.bf16, device)

    def losses(batch: Batch, progress: float) -> dict[str, Tensor]:
        batch = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logit = model(batch.ids, batch.dense).logit
        return {"loss": binary_cross_entropy_with_logits(logit.float() + batch.offset, batch.label)}

    return train(
        title,
        settings,
        batches,
        losses=losses,
        optimisers=[torch.optim.Adam(dense_parameters(model), settings.learning_rate)],
        valid_auc=auc_on(model, rows["valid"], device),
        weights=lambda: plain_state(model),
    )


def build_teacher(settings: Teacher, layout: Layout) -> TeacherModel:
    """A teacher as configured, without weights: sharding gives it those."""
    return TeacherModel(
        layout,
        width=settings.width,
        history=settings.history.choice(),
        interaction=settings.interaction.choice(),
        head=settings.head.choice(),
        device=torch.device("meta"),
    )

"""One teacher trained on the labels of the train window, in one process or in this one of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recdistill.code import code_digest
from recdistill.config.teacher import Teacher
from recdistill.data.batches import Batches
from recdistill.data.encoder import Encoder
from recdistill.data.store import Rows, open_rows
from recdistill.files import digest, manifest
from recdistill.models.teacher import TeacherModel
from recdistill.train.device import use_bf16
from recdistill.train.engine.checkpoint import Snapshots
from recdistill.train.engine.course import Trained
from recdistill.train.engine.in_parts import compute_in_parts
from recdistill.train.engine.loop import Losses, train
from recdistill.train.engine.progressive import Progressive
from recdistill.train.predict import auc_on
from recdistill.train.teachers.folds import fold_of
from recdistill.train.teachers.memory import memory_told, needs
from recdistill.train.teachers.optimisers import dense_optimiser, embedding_optimiser
from recdistill.train.teachers.placement import Placement
from recdistill.train.teachers.shard import World, dense_parameters, plain_state, shard
from recdistill.train.teachers.tasks import multi_task_loss
from recdistill.train.teachers.warm import folder_digest, warm_start
from recdistill.types import Batch, Layout


def fit_teacher(
    title: str,
    settings: Teacher,
    seed: int,
    prepared: Path,
    world: World,
    snapshots: Path | None = None,
    number: int = 0,
    fold: int | None = None,
) -> Trained:
    """The weights of the best validation AUC; in one pass, the last ones. Every rank has to call it.

    prepared: the folder of the prepare step. snapshots: where to write and look for some; None trains without.
    number: of the member that is trained, for a warm start. fold: the part of the train window that it is not to see;
    None for none. BadInput with all that takes memory where it runs out.
    """
    layout = open_rows(prepared, "train").layout
    torch.manual_seed(seed)
    plain = build_teacher(settings, layout)
    known = needs(settings, layout, num_dense_parameters(plain))
    with memory_told(title, known, settings.batch_size // world.size, world.device):
        return _fit(title, settings, seed, prepared, world, snapshots, number, fold, plain)


def _fit(
    title: str,
    settings: Teacher,
    seed: int,
    prepared: Path,
    world: World,
    snapshots: Path | None,
    number: int,
    fold: int | None,
    plain: TeacherModel,
) -> Trained:
    rows = {name: open_rows(prepared, name) for name in ("train", "valid")}
    torch.manual_seed(seed)
    model = sharded_teacher(plain, settings, world.device)
    if settings.warm_start is not None:
        warm_start(model, Encoder.open(prepared / "encoder"), Path(settings.warm_start), number)
    if world.rank:
        torch.manual_seed(seed * 1_000_003 + world.rank)  # for dropout, which is to differ between ranks
    progressive = Progressive(world.device, world.size) if settings.one_pass else None
    dense = dense_parameters(model)
    return train(
        title,
        settings,
        Batches(
            rows=rows["train"],
            batch_size=settings.batch_size // world.size,
            shuffle=None if settings.one_pass else "rows",
            seed=seed,
            among=None if fold is None else seen_without(fold, rows["train"], settings),
            rank=world.rank,
            world=world.size,
        ),
        losses=losses_of(model, settings, world.device, progressive),
        optimisers=[dense_optimiser(settings.optimiser, dense, settings.learning_rate), model.fused_optimizer],
        valid_auc=auc_on(model, rows["valid"], world.device),
        weights=lambda: plain_state(model),
        snapshots=None
        if snapshots is None
        else Snapshots(
            snapshots,
            title,
            identity(settings, seed, prepared, world.device, fold),
            settings=settings,
            model=model.state_dict,
            rank=world.rank,
            world=world.size,
        ),
        progressive=progressive,
    )


def sharded_teacher(plain: TeacherModel, settings: Teacher, device: torch.device) -> Any:
    """The teacher over this process group, its tables with their fused optimiser."""
    if settings.accumulate > 1:
        for module in (plain.history, plain.interaction, plain.head):
            if module is not None:
                compute_in_parts(module, settings.accumulate)
    optimiser = embedding_optimiser(settings.embedding_optimiser, device)
    placement = Placement(kinds=settings.sharding, communication=settings.communication)
    return shard(plain, device, settings.embedding_learning_rate, placement, optimiser)


def losses_of(
    model: nn.Module, settings: Teacher, device: torch.device, progressive: Progressive | None = None
) -> Losses:
    """What a step minimises, a function of a batch."""
    bf16 = use_bf16(settings.bf16, device)

    def losses(batch: Batch, progress: float) -> dict[str, Tensor]:
        batch = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            scores = model(batch.ids, batch.dense)
        if progressive is not None:
            progressive.add(scores.logit, batch.label)
        return {"loss": multi_task_loss(scores, batch, settings.task_weight)}

    return losses


def seen_without(fold: int, rows: Rows, settings: Teacher) -> NDArray[np.int64]:
    """The places of all rows of the other parts."""
    assert settings.folds is not None
    return np.flatnonzero(fold_of(rows, settings.folds) != fold)


def identity(
    settings: Teacher, seed: int, prepared: Path, device: torch.device, fold: int | None = None
) -> dict[str, Any]:
    """All that the bits of a training depend on: what a snapshot has to agree with."""
    listed = (manifest(prepared) or {"files": {}})["files"]
    vocabulary = {name: about for name, about in listed.items() if name.startswith("encoder/")}
    rows = {name: about for name, about in listed.items() if name.startswith(("rows/", "events/"))}
    return {
        "settings": settings.bits,
        "seed": seed,
        "data": digest(rows),
        "vocabulary": digest(vocabulary),
        "warm_start": None if settings.warm_start is None else folder_digest(Path(settings.warm_start)),
        "code": code_digest(Path(__file__), *settings.files),
        "torch": torch.__version__,
        "device": device.type,
        "fold": None if fold is None or settings.folds is None else {"not": fold, **settings.folds.model_dump()},
    }


def build_teacher(settings: Teacher, layout: Layout, tables: str = "meta") -> TeacherModel:
    """A teacher as configured. tables: the device that holds them; on "meta" they have no rows until sharding."""
    return TeacherModel(
        layout,
        width=settings.width,
        history=settings.history.choice(),
        interaction=settings.interaction.choice(),
        head=settings.head.choice(),
        num_tasks=1 + len(layout.tasks),
        device=torch.device(tables),
    )


def num_dense_parameters(model: nn.Module) -> int:
    """Of all that is no table."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("embed."))

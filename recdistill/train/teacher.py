"""The train_teacher step, and a trained teacher back from disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.config import Run
from recdistill.data.batches import Batches
from recdistill.data.store import open_rows
from recdistill.files import write_json
from recdistill.models.teacher import TeacherModel
from recdistill.train.device import choose_device, pin_threads, use_bf16
from recdistill.train.loop import train
from recdistill.train.predict import WEIGHTS, auc_on, load_weights, save_weights
from recdistill.train.shard import dense_parameters, one_process, plain_state, restore, shard
from recdistill.types import Batch, Layout


def train_teacher(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Train on the labels of the train window; the weights of the best validation AUC stay."""
    rows = {name: open_rows(inputs["prepare"], name) for name in ("train", "valid")}
    device = choose_device(run.device)
    pin_threads(run.threads)
    torch.manual_seed(run.seed)
    batches = Batches(rows=rows["train"], batch_size=run.teacher.batch_size, shuffle="rows", seed=run.seed)
    with one_process(device):
        model = shard(_build(run, rows["train"].layout), device, run.teacher.embedding_learning_rate)
        bf16 = use_bf16(run.teacher.bf16, device)

        def losses(batch: Batch, progress: float) -> dict[str, Tensor]:
            batch = batch.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logit = model(batch.ids, batch.dense).logit
            return {"loss": binary_cross_entropy_with_logits(logit.float() + batch.offset, batch.label)}

        trained = train(
            "teacher",
            run.teacher,
            batches,
            losses=losses,
            optimisers=[torch.optim.Adam(dense_parameters(model), run.teacher.learning_rate)],
            valid_auc=auc_on(model, rows["valid"], device),
            weights=lambda: plain_state(model),
        )
    save_weights(trained.weights, out / WEIGHTS)
    write_json(
        out / "teacher.json",
        {
            "parameters": sum(value.numel() for value in trained.weights.values()),
            "device": str(device),
            "bf16": bf16,
            "best": trained.best.to_json(),
            "curve": [check.to_json() for check in trained.curve],
        },
    )


def _build(run: Run, layout: Layout) -> TeacherModel:
    settings = run.teacher
    return TeacherModel(
        layout,
        width=settings.width,
        attention=settings.attention,
        cross_layers=settings.cross_layers,
        hidden=settings.tower,
        dropout=settings.dropout,
        device=torch.device("meta"),
    )


@contextmanager
def open_teacher(run: Run, layout: Layout, folder: Path) -> Iterator[nn.Module]:
    """The trained teacher of a train_teacher folder, sharded again, in float32 and in evaluation mode."""
    device = choose_device(run.device)
    with one_process(device):
        model = shard(_build(run, layout), device, run.teacher.embedding_learning_rate)
        restore(model, load_weights(folder))
        yield model.eval()

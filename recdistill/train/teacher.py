"""The train_teacher step, and a trained teacher back from disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from recdistill.config import Run
from recdistill.files import write_json
from recdistill.train.device import choose_device, pin_threads, use_bf16
from recdistill.train.fit import build_teacher, fit_teacher
from recdistill.train.predict import WEIGHTS, load_weights, save_weights
from recdistill.train.shard import restore, shard, world
from recdistill.types import Layout


def train_teacher(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write the weights of the best validation AUC and teacher.json: its size, where it was trained, its curve."""
    pin_threads(run.threads)
    device = choose_device(run.device)
    with world(device) as here:
        trained = fit_teacher("teacher", run.teacher, run.seed, inputs["prepare"], here)
    save_weights(trained.weights, out / WEIGHTS)
    about = {
        "parameters": sum(value.numel() for value in trained.weights.values()),
        "device": str(device),
        "bf16": use_bf16(run.teacher.bf16, device),
        "best": trained.best.to_json(),
        "curve": [check.to_json() for check in trained.curve],
    }
    write_json(out / "teacher.json", about)


@contextmanager
def open_teacher(run: Run, layout: Layout, folder: Path) -> Iterator[nn.Module]:
    """The trained teacher of a train_teacher folder, sharded again, in float32 and in evaluation mode."""
    device = choose_device(run.device)
    with world(device):
        model = shard(build_teacher(run.teacher, layout), device, run.teacher.embedding_learning_rate)
        restore(model, load_weights(folder))
        yield model.eval()

"""What the training speed is compared with: the dense layers alone, dense-gradient Adam, FuxiCTR's own DCNv2."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

BATCH = 4096
Step = Callable[[], None]


class Dense(nn.Module):
    """The teacher's layers above its embeddings."""

    def __init__(self, settings: Any, num_fields: int) -> None:
        super().__init__()
        from recdistill.models.embed import Fields, Shape

        self.fields = Fields
        self.interaction = settings.interaction.choice()(Shape(fields=num_fields, width=settings.width, dense=0))
        self.head = settings.head.choice()(self.interaction.size, 1)

    def forward(self, vectors: Tensor) -> Tensor:
        """[N, F, E] -> [N] logits."""
        fields = self.fields(vectors=vectors, dense=vectors.new_zeros(len(vectors), 0))
        logit: Tensor = self.head(self.interaction(fields)).float()[:, 0]
        return logit


class PlainTables(nn.Module):
    """A plain nn.EmbeddingBag for every feature, below the same layers."""

    def __init__(self, settings: Any, num_fields: int, num_rows: int) -> None:
        super().__init__()
        bags = [nn.EmbeddingBag(num_rows, settings.width, mode="sum") for _ in range(num_fields)]
        self.bags = nn.ModuleList(bags)
        self.dense = Dense(settings, num_fields)

    def forward(self, ids: Tensor) -> Tensor:
        """[N, F] -> [N] logits."""
        vectors = torch.stack([bag(ids[:, place : place + 1]) for place, bag in enumerate(self.bags)], dim=1)
        out: Tensor = self.dense(vectors)
        return out


def stepper(model: nn.Module, source: Callable[[], Tensor], bf16: bool) -> Step:
    """One training step of a plain model by Adam over all its parameters, on labels of both kinds."""
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    label = (torch.arange(BATCH) % 2).float()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logit = model(source())
        optimiser.zero_grad(set_to_none=True)
        binary_cross_entropy_with_logits(logit, label).backward()
        optimiser.step()

    return step


def dense_layers(settings: Any, num_fields: int, bf16: bool) -> Step:
    """The limit when embeddings are free: the layers on one random input that needs no gradient."""
    vectors = torch.randn(BATCH, num_fields, settings.width)
    return stepper(Dense(settings, num_fields), lambda: vectors, bf16)


def dense_adam(settings: Any, num_fields: int, num_rows: int, bf16: bool) -> Step:
    """The usual way: a gradient as large as each table, and Adam over all of it; ids from memory."""
    ids = torch.randint(1, num_rows, (BATCH, num_fields))
    return stepper(PlainTables(settings, num_fields, num_rows), lambda: ids, bf16)


_FUXICTR = """
import logging, sys, tempfile, time
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/model_zoo/DCNv2"]
num_fields, num_rows, width, batch, threads = map(int, sys.argv[2:])
import torch
torch.set_num_threads(threads)
from fuxictr.features import FeatureMap
from src.DCNv2 import DCNv2
features = FeatureMap("bench", tempfile.mkdtemp())
names = [f"id_{n:02d}" for n in range(num_fields)]
for name in names:
    features.features[name] = {"source": "", "type": "categorical", "vocab_size": num_rows, "padding_idx": 0}
features.labels, features.num_fields, features.total_features = ["label"], num_fields, num_fields * num_rows
features.input_length, features.default_emb_dim = num_fields, width
features.set_column_index()
model = DCNv2(features, gpu=-1, model_structure="parallel", parallel_dnn_hidden_units=[256, 128], num_cross_layers=3,
              embedding_dim=width, learning_rate=1e-3, optimizer="adam", loss="binary_crossentropy", verbose=0,
              task="binary_classification", metrics=["AUC"], model_root=tempfile.mkdtemp())
model._max_gradient_norm = 10.0
model.train()
data = {name: torch.randint(1, num_rows, (batch,)) for name in names}
data["label"] = (torch.arange(batch) % 2).float()
for line in sys.stdin:
    began = time.perf_counter()
    for _ in range(int(line)):
        model.train_step(data).item()
    print(time.perf_counter() - began, flush=True)
"""


@contextmanager
def fuxictr(checkout: str, num_fields: int, num_rows: int, width: int) -> Iterator[Callable[[int], float]]:
    """A function: so many of FuxiCTR's own training steps, in a process of its own -> seconds.

    Its batch is given from memory, so its reading of data costs it nothing here.
    """
    python = os.environ.get("FUXICTR_PYTHON", sys.executable)
    numbers = [str(n) for n in (num_fields, num_rows, width, BATCH, torch.get_num_threads())]
    process = subprocess.Popen(
        [python, "-c", _FUXICTR, checkout, *numbers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    to, back = process.stdin, process.stdout

    def seconds(num_steps: int) -> float:
        print(num_steps, file=to, flush=True)
        return float(back.readline())

    try:
        yield seconds
    finally:
        to.close()
        process.wait()

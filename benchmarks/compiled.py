"""torch.compile of a teacher's dense layers on this CPU: `python benchmarks/compiled.py`, a JSON line per shape.

A step (forward, backward, Adam) of DCNv2 with 3 full cross layers and a [256, 128] tower over 20 fields, batches of
4,096, one thread. eager_ms, compiled_ms: processor time, medians of 7 turns in turn. compile_s: of the first step.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from recdistill.models.embed import Fields, Shape
from recdistill.plugins import choose

BATCH, FIELDS, TURNS = 4096, 20, 7


class Dense(nn.Module):
    """All but the tables."""

    def __init__(self, width: int) -> None:
        super().__init__()
        make = choose("interaction", "dcnv2", {"layers": 3, "hidden": [256, 128]})
        self.interaction = make(Shape(fields=FIELDS, width=width, dense=0))
        self.head = nn.Linear(self.interaction.size, 1)

    def forward(self, vectors: Tensor, dense: Tensor) -> Tensor:
        return self.head(self.interaction(Fields(vectors=vectors, dense=dense)))


def measure(width: int, bf16: bool) -> dict[str, object]:
    torch.manual_seed(0)
    model = Dense(width)
    ways = {"eager": model, "compiled": torch.compile(model, dynamic=False)}
    vectors, dense = torch.randn(BATCH, FIELDS, width, requires_grad=True), torch.zeros(BATCH, 0)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)

    def step(forward: Callable[..., Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = forward(vectors, dense).float().mean()
        optimiser.zero_grad()
        vectors.grad = None
        loss.backward()
        optimiser.step()

    began = time.perf_counter()
    step(ways["compiled"])
    compile_s = time.perf_counter() - began
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, forward in ways.items():
            began = time.process_time()
            step(forward)
            taken[name].append((time.process_time() - began) * 1e3)
    found = {f"{name}_ms": round(statistics.median(times)) for name, times in taken.items()}
    return {"width": width, "bf16": bf16, **found, "compile_s": round(compile_s)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for width in (16, 64):
        for bf16 in (True, False):
            print(json.dumps(measure(width, bf16)), flush=True)

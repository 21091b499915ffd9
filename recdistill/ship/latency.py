"""How long a graph takes for one request, beside a fixed reference graph timed in the same minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from recdistill.bundle import open_session

NUM_ROUNDS = 3
NUM_CALLS = 200
_SIZES = (320, 256, 64, 1)  # a tower over 20 fields of width 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Of one call, in milliseconds. p99_ratio: over the reference's p99, which a busy machine moves less."""

    p50_ms: float
    p99_ms: float
    p99_ratio: float


def reference(num_rows: int) -> Callable[[], object]:
    """A fixed tower on as many rows, in the runtime that serves, on one thread: what all others are measured by."""
    generator = np.random.default_rng(0)
    names = [f"x{place}" for place in range(len(_SIZES))]
    weights = [generator.normal(size=shape).astype(np.float32) for shape in pairwise(_SIZES)]
    nodes = [helper.make_node("MatMul", [x, f"w{x}"], [y]) for x, y in pairwise(names)]
    initial = [numpy_helper.from_array(w, f"w{x}") for x, w in zip(names, weights, strict=False)]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [num_rows, size])
        for name, size in ((names[0], _SIZES[0]), (names[-1], _SIZES[-1]))
    ]
    graph = helper.make_graph(nodes, "reference", ends[:1], ends[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = open_session(model.SerializeToString(), "reference", 1)
    rows = generator.normal(size=(num_rows, _SIZES[0])).astype(np.float32)
    return lambda: session.run(None, {names[0]: rows})


def latency(call: Callable[[], object], other: Callable[[], object]) -> Latency:
    """call and other in turn, NUM_CALLS times a round; of the rounds the one with the least p99, as noise only adds."""
    best: Latency | None = None
    for _ in range(NUM_ROUNDS):
        times = np.array([[_time(call), _time(other)] for _ in range(NUM_CALLS)]) * 1e3
        p99, base = np.quantile(times, 0.99, axis=0)
        found = Latency(p50_ms=float(np.median(times[:, 0])), p99_ms=float(p99), p99_ratio=float(p99 / base))
        best = found if best is None or found.p99_ms < best.p99_ms else best
    assert best is not None
    return best


def _time(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started

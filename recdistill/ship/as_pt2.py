"""A student as a program of torch.export, for those who serve by torch or compile with AOTInductor."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch

from recdistill.models.build import Ranker
from recdistill.ship.onnx_graph import example, reading_logit
from recdistill.types import Layout


def as_pt2(student: Ranker, layout: Layout, path: Path) -> None:
    """Write forward(ids [rows, K] int64, dense [rows, D] float32) -> logit [rows], of any number of rows.

    torch would keep the example's rows in it as a pickle, and the sources' paths: both are left out. recdistill never
    opens such a file: a foreign one may hold a pickle.
    """
    rows = torch.export.Dim("rows", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(reading_logit(student), example(layout), dynamic_shapes=({0: rows}, {0: rows}))
    program.example_inputs = None
    for node in program.graph.nodes:
        for name in ("stack_trace", "nn_module_stack", "source_fn_stack"):
            node.meta.pop(name, None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    unfinished = path.with_name(f".unfinished-{path.name}")
    unfinished.write_bytes(buffer.getvalue())
    unfinished.replace(path)

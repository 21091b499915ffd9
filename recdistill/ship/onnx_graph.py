"""A student as one ONNX file, of any number of rows; float tables by Gather, codes by Gather and DequantizeLinear."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from onnx import ModelProto
from torch import Tensor, nn

from recdistill.models.tables.rows import OPSET
from recdistill.types import Layout

Forward = Callable[[Tensor, Tensor], Tensor]


class Reading(nn.Module):
    """A model of which one tensor is read. forward(ids, dense) -> that tensor."""

    def __init__(self, student: nn.Module, read: Forward) -> None:
        super().__init__()
        self.student = student
        self.read = read

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        return self.read(ids, dense)


def reading_logit(student: nn.Module) -> Reading:
    """forward(ids, dense) -> logit [N]."""

    def logit(ids: Tensor, dense: Tensor) -> Tensor:
        found: Tensor = student(ids, dense).logit
        return found

    return Reading(student, logit).eval()


def example(layout: Layout) -> tuple[Tensor, Tensor]:
    """ids and dense of three absent rows: an exporter would take one row for a fixed number of rows."""
    return torch.zeros((3, layout.num_id_columns), dtype=torch.int64), torch.zeros((3, len(layout.dense)))


def to_onnx(student: nn.Module, layout: Layout, path: Path) -> None:
    """ids [rows, K] int64 and dense [rows, D] float32 -> logit [rows]."""
    write_graph(reading_logit(student), layout, path, "logit")


def write_graph(model: Reading, layout: Layout, path: Path, output: str) -> None:
    """ids [rows, K] int64 and dense [rows, D] float32 -> what the model reads, [rows, ...]."""
    rows = torch.export.Dim("rows", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.eval(),
            example(layout),
            input_names=["ids", "dense"],
            output_names=[output],
            dynamic_shapes=({0: rows}, {0: rows}),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    path.write_bytes(_plain(program.model_proto).SerializeToString(deterministic=True))


def _plain(model: ModelProto) -> ModelProto:
    """Without what the exporter notes of where it ran: sources, paths and stack traces, larger than a small student."""
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("value_info")
    return model

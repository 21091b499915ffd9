"""A bundle's graph as a model repository of NVIDIA's Triton Inference Server."""

from __future__ import annotations

import shutil
from pathlib import Path

from onnx import TensorProto, ValueInfoProto

from recdistill.bundle import GRAPH
from recdistill.files import whole_folder
from recdistill.ship.graph_check import check_graph

MAX_ROWS = 4096
_TYPES: dict[int, str] = {TensorProto.INT64: "TYPE_INT64", TensorProto.FLOAT: "TYPE_FP32"}


def as_triton(bundle: Path, name: str, out: Path) -> None:
    """Write OUT/NAME/config.pbtxt and OUT/NAME/1/model.onnx: encoded rows in, logits out.

    Rows are Triton's batch dimension, so that it may join requests. Encode raw requests by the bundle's encoder first.
    """
    model = check_graph((bundle / GRAPH).read_bytes(), str(bundle / GRAPH))
    lines = [f'name: "{name}"', 'backend: "onnxruntime"', f"max_batch_size: {MAX_ROWS}"]
    lines += [line for value in model.graph.input for line in _tensor("input", value)]
    lines += [line for value in model.graph.output for line in _tensor("output", value)]
    lines += [
        "instance_group [ { kind: KIND_CPU, count: 1 } ]",
        "dynamic_batching { }",
        'parameters { key: "intra_op_thread_count", value: { string_value: "1" } }',
        'parameters { key: "inter_op_thread_count", value: { string_value: "1" } }',
    ]
    with whole_folder(out, {"kind": "triton"}) as folder:
        (folder / name / "1").mkdir(parents=True)
        shutil.copyfile(bundle / GRAPH, folder / name / "1/model.onnx")
        (folder / name / "config.pbtxt").write_text("\n".join(lines) + "\n")


def _tensor(kind: str, value: ValueInfoProto) -> list[str]:
    """Its columns; the first dimension, the rows, is not told. A scalar a row is a column of one, reshaped."""
    tensor = value.type.tensor_type
    sizes = [dimension.dim_value for dimension in tensor.shape.dim][1:]
    dims = ", ".join(map(str, sizes)) or "1"
    reshape = "" if sizes else ", reshape: { shape: [ ] }"
    return [f'{kind} [ {{ name: "{value.name}", data_type: {_TYPES[tensor.elem_type]}, dims: [ {dims} ]{reshape} }} ]']

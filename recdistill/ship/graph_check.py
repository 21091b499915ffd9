"""Whether an ONNX file may be opened: one file without parts elsewhere, and finite numbers only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from recdistill.problems import BadInput, problem

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


def check_graph(data: bytes, where: str) -> ModelProto:
    """The model that the bytes are. BadInput lists every tensor kept in another file or holding NaN or infinity.

    The runtime would open the file that a tensor names, whatever its path; and one NaN makes some users' scores NaN.
    """
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise BadInput(
            problem(where, wanted="an ONNX model", found="other bytes", remedy="fetch the bundle again")
        ) from None
    lines = []
    for tensor in _tensors(model):
        name = f"{where}: tensor {tensor.name}"
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            named = next((entry.value for entry in tensor.external_data if entry.key == "location"), "no file")
            remedy = "never open it: export the model into one file"
            lines.append(
                problem(name, wanted="its numbers in the model itself", found=f"the file {named!r}", remedy=remedy)
            )
        elif tensor.data_type in _FLOATS and not np.isfinite(numpy_helper.to_array(tensor).astype(np.float32)).all():
            remedy = "train the student again"
            lines.append(problem(name, wanted="finite numbers", found="NaN or infinity", remedy=remedy))
    if lines:
        raise BadInput(lines)
    return model


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model: of its graph, of graphs inside nodes, of functions."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[TensorProto]:
    node: NodeProto
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            yield from _of_graph(attribute.g)
            for graph in attribute.graphs:
                yield from _of_graph(graph)

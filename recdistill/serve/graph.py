"""An ONNX graph as data: read from one file alone, measured, pruned and made into a session of one thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from recdistill.ship.graph_check import check_graph

Array = NDArray[Any]
_LARGE = 1 << 16  # bytes


@dataclass(slots=True)
class Graph:
    """nodes in the order in which they run; constants by name, as they are stored; opsets: domain -> version."""

    nodes: list[Any]
    constants: dict[str, Any]
    inputs: dict[str, Any]
    output: str
    opsets: dict[str, int]
    ir_version: int
    arrays: dict[str, Array] = field(default_factory=dict)

    def array(self, name: str) -> Array | None:
        """A constant as an array; None for what is computed."""
        if name not in self.arrays and name in self.constants:
            self.arrays[name] = numpy_helper.to_array(self.constants[name])
        return self.arrays.get(name)

    def users(self, name: str) -> list[Any]:
        """The nodes that read a value."""
        return [node for node in self.nodes if name in node.input]


def read_graph(path: Path) -> Graph:
    """The graph of a bundle. BadInput for no graph, weights in files beside it, or weights that are no numbers."""
    return _graph(check_graph(path.read_bytes(), str(path)))


def _graph(model: Any) -> Graph:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        values = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Constant" and "value" in values:
            constants[node.output[0]] = values["value"].t
        else:
            nodes.append(node)
    return Graph(
        nodes=nodes,
        constants=constants,
        inputs={value.name: value for value in model.graph.input},
        output=model.graph.output[0].name,
        opsets={opset.domain: opset.version for opset in model.opset_import},
        ir_version=model.ir_version,
    )


def attribute(node: Any, name: str, default: Any) -> Any:
    """A node's attribute."""
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def reachable(nodes: Sequence[Any], outputs: Iterable[str]) -> list[Any]:
    """The nodes that the outputs need, in order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def session(
    graph: Graph,
    nodes: Sequence[Any],
    outputs: Sequence[str],
    inputs: Mapping[str, Any],
    constants: Mapping[str, Any] | None = None,
) -> Any:
    """A session of one thread that computes `outputs` from those of `inputs` that it needs.

    constants: instead of the graph's own.
    """
    constants = graph.constants if constants is None else constants
    kept = reachable(nodes, outputs)
    read = {name for node in kept for name in node.input}
    built = helper.make_graph(
        kept,
        "scorer",
        [value for name, value in inputs.items() if name in read],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [tensor for name, tensor in constants.items() if name in read and name not in inputs],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
    model = helper.make_model(built, opset_imports=opsets)
    model.ir_version = graph.ir_version
    return one_thread(model.SerializeToString())


def one_thread(model: bytes) -> Any:
    """A CPU session that never leaves the caller's thread: a second one would spin beside other processes' work."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def tensor(name: str, value: Array) -> Any:
    """A constant."""
    return numpy_helper.from_array(np.ascontiguousarray(value), name)


def measured(graph: Graph, names: Sequence[str], given: Mapping[str, Array]) -> dict[str, Array]:
    """The values of some names on given inputs, by running the graph as it is; large tables are not copied for it."""
    large = {
        name: graph.array(name)
        for name, constant in graph.constants.items()
        if len(constant.raw_data) > _LARGE and constant.data_type == TensorProto.FLOAT
    }
    inputs = dict(graph.inputs) | {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, graph.constants[name].dims) for name in large
    }
    computed = [name for name in names if name not in graph.inputs and name not in graph.constants]
    run = session(graph, graph.nodes, computed, inputs)
    needed = {value.name for value in run.get_inputs()}
    values = run.run(computed, {name: value for name, value in {**large, **given}.items() if name in needed})
    return dict(given) | dict(zip(computed, values, strict=True))

"""Embedding tables of one width as one array, so that the fields of a row are gathered together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from recdistill.serve.graph import Array, Graph, attribute


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """arrays: by the name of the array. places: table -> its array, and the row of it where the table begins."""

    arrays: dict[str, Array]
    places: dict[str, tuple[str, int]]


def fuse_tables(graph: Graph) -> Tables:
    """The float tables that are only ever gathered from, which leave the graph's constants; others stay."""
    by_width: dict[int, list[str]] = {}
    for name, constant in graph.constants.items():
        users = graph.users(name)
        gathered = [n.op_type == "Gather" and n.input[0] == name and attribute(n, "axis", 0) == 0 for n in users]
        if users and all(gathered) and len(constant.dims) == 2 and constant.data_type == TensorProto.FLOAT:
            by_width.setdefault(constant.dims[1], []).append(name)
    arrays: dict[str, Array] = {}
    places: dict[str, tuple[str, int]] = {}
    for width, names in by_width.items():
        fused, start = f"tables:{width}", 0
        for name in names:
            places[name] = (fused, start)
            start += graph.constants[name].dims[0]
        parts = [graph.array(name) for name in names]
        arrays[fused] = np.concatenate([part for part in parts if part is not None])
        for name in names:
            del graph.constants[name], graph.arrays[name]
    return Tables(arrays=arrays, places=places)

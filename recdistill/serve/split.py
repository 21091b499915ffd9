"""A student's graph rewired: what is of the user runs once a request, what is of the item once a model.

The first layer W fields + b is cut into W_once fields_once + W_item fields_item + W_each fields_each + b; what is ONCE
runs on one row and is broadcast; what is ITEM and read by EACH is computed for every item beforehand and gathered.
Exact but for the order in which floats are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from recdistill.serve.graph import Array, Graph, attribute, reachable, tensor
from recdistill.serve.roles import Role, Roles, columns_read, first_layers, join
from recdistill.serve.tables import Tables

ITEM = "item"  # the graph's input that says which item each candidate is
# Operators that broadcast one row against many by themselves.
_BROADCAST = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where", "MatMul", "Mod"),
    *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or"),
}


class Unsplittable(Exception):
    """Why a graph is served as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A part of a first layer's input: a value, its role, and the rows of the layer's weight that it meets."""

    name: str
    role: Role
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """An input of the cut graph: rows of a fused table side by side, [C, width], those of ids + starts of each column.

    NumPy copies them in a third of the time of onnxruntime's Gather.
    """

    name: str
    table: str
    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    width: int

    def take(self, table: Array, ids: NDArray[np.int64]) -> Array:
        """[C, width] of ids [C, K]."""
        return table.take(ids.take(self.columns, axis=1) + self.starts, axis=0).reshape(len(ids), self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A rewired graph. nodes: in order. frontier: the ITEM values that EACH reads, to be computed beforehand."""

    nodes: list[Any]
    constants: dict[str, Any]
    roles: dict[str, Role]
    frontier: list[str]
    vectors: list[Vectors]


class Splitter:
    """One rewiring of a graph for given roles of its columns. shapes: of every value, on some rows."""

    def __init__(self, graph: Graph, tables: Tables, roles: Roles, shapes: dict[str, tuple[int, ...]]) -> None:
        self.graph, self.tables, self.columns, self.shapes = graph, tables, roles, shapes
        self.constants = dict(graph.constants)
        self.roles: dict[str, Role] = {}
        self.nodes: list[Any] = []
        self.vectors: list[Vectors] = []
        self.made_by = {output: node for node in graph.nodes for output in node.output}

    def cut(self) -> Cut:
        """Raises Unsplittable where the output would not be one per candidate."""
        layers = {name: found for name, found in first_layers(self.graph).items() if len(self.shapes[name]) == 2}
        for node in self.graph.nodes:
            concat = layers.get(node.input[0], (None, None))[0] if node.input else None
            if node.output[0] in layers:
                continue  # taken apart by its only reader
            if concat is None:
                self._rewire(node)
            else:
                self._first_layer(concat, node)
        if self._role(self.graph.output) is not Role.EACH:
            raise Unsplittable("its score does not depend on both user and item")
        nodes = reachable(self.nodes, [self.graph.output])
        read = {name for node in nodes if self._role(node.output[0]) is Role.EACH for name in node.input}
        frontier = sorted(name for name in read if self.roles.get(name) is Role.ITEM)
        vectors = [each for each in self.vectors if each.name in read]
        return Cut(nodes=nodes, constants=self.constants, roles=self.roles, frontier=frontier, vectors=vectors)

    def _role(self, name: str) -> Role:
        return self.roles.get(name, Role.CONST)

    def _emit(self, kind: str, inputs: Sequence[str], output: str, role: Role, **attributes: Any) -> str:
        if output not in self.roles:
            self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
            self.roles[output] = role
        return output

    def _constant(self, name: str, value: Array) -> str:
        self.constants[name] = tensor(name, value)
        return name

    def _rewire(self, node: Any) -> None:
        """A node as it is, but on one row where all its columns are of the user, and on the tables put together."""
        if any(a.HasField("g") for a in node.attribute):
            raise Unsplittable(f"it holds a branch ({node.op_type})")
        roles = [self._role_of_input(node, name) for name in node.input]
        role = join(roles)
        inputs = [
            f"once_{name}" if name in self.graph.inputs and r is Role.ONCE else name
            for name, r in zip(node.input, roles, strict=True)
        ]
        if node.op_type == "Gather" and node.input[0] in self.tables.places:
            self._emit("Gather", self._placed(node.input[0], inputs[1], role), node.output[0], role, axis=0)
            return
        if role is Role.EACH and node.op_type not in _BROADCAST:
            inputs = [self._expanded(n) if r is Role.ONCE else n for n, r in zip(inputs, roles, strict=True)]
        copy = type(node)()
        copy.CopyFrom(node)
        del copy.input[:]
        copy.input.extend(inputs)
        self.nodes.append(copy)
        self.roles.update(dict.fromkeys(node.output, role))

    def _role_of_input(self, node: Any, name: str) -> Role:
        if name in self.graph.inputs:
            return self.columns.of(name, columns_read(self.graph, node))
        return self._role(name)

    def _placed(self, table: str, ids: str, role: Role) -> tuple[str, str]:
        fused, start = self.tables.places[table]
        if start == 0:
            return fused, ids
        offset = self._constant(f"offset:{start}", np.array(start))
        return fused, self._emit("Add", [ids, offset], f"{ids}+{start}:{role.name}", role)

    def _expanded(self, name: str) -> str:
        """A value of one row for each candidate."""
        if name not in self.shapes:
            raise Unsplittable(f"the shape of {name} is not known")
        rank = len(self.shapes[name])
        rows = self._emit("Shape", [ITEM], "num_rows", Role.EACH)
        if rank > 1:
            ones = self._constant(f"ones:{rank - 1}", np.ones(rank - 1, np.int64))
            rows = self._emit("Concat", [rows, ones], f"num_rows:{rank}", Role.EACH, axis=0)
        return self._emit("Expand", [name, rows], f"{name}:each", Role.EACH)

    def _first_layer(self, concat: Any, layer: Any) -> None:
        weight = self.graph.array(layer.input[1])
        assert weight is not None
        if layer.op_type == "Gemm" and attribute(layer, "transB", 0):
            weight = weight.T
        bias = layer.input[2] if layer.op_type == "Gemm" and len(layer.input) > 2 else None
        output, fields = layer.output[0], self._fields(concat)
        inputs = {role: [f for f in fields if f.role is role] for role in Role}

        def partial(role: Role, plus: str | None, name: str) -> str:
            value, rows = self._side_by_side(inputs[role], output)
            matrix = self._constant(f"{output}:{role.name}:weight", weight[rows])
            given = [value, matrix] if plus is None else [value, matrix, plus]
            return self._emit("MatMul" if plus is None else "Gemm", given, name, role)

        present = [role for role in Role if inputs[role]]
        if len(present) == 1:
            partial(present[0], bias, output)
            return
        item = partial(Role.ITEM, None, f"{output}:ITEM") if inputs[Role.ITEM] else None
        total = partial(Role.ONCE, bias, f"{output}:ONCE") if inputs[Role.ONCE] else bias
        if inputs[Role.EACH]:
            total = partial(Role.EACH, total, output if item is None else f"{output}:EACH")
        if item is not None:
            assert total is not None
            self._emit("Add", [item, total], output, Role.EACH)

    def _fields(self, concat: Any) -> list[Field]:
        """The inputs of the concatenation; columns of a matrix that are of different roles are taken apart."""
        found, start = [], 0
        for name in concat.input:
            width = self.shapes[name][1]
            matrix, columns = self._as_columns(name, width)
            if matrix is not None:
                found += self._columns(matrix, columns, start)
            else:
                role = self._role(name)
                role = Role.ONCE if role is Role.CONST else role
                found.append(Field(name=name, role=role, rows=np.arange(start, start + width)))
            start += width
        return found

    def _as_columns(self, name: str, width: int) -> tuple[str | None, list[int]]:
        """(matrix, columns) of a value that is some columns of a matrix; (None, []) for all else."""
        if name in self.graph.inputs:
            return name, list(range(width))
        node = self.made_by.get(name)
        if node is None or node.op_type != "Gather" or node.input[0] not in self.graph.inputs:
            return None, []
        columns = columns_read(self.graph, node)
        return (node.input[0], columns) if columns is not None and len(columns) == width else (None, [])

    def _columns(self, matrix: str, columns: list[int], start: int) -> list[Field]:
        """Fields of one role each, of columns that are of different roles."""
        roles, found = [self.columns.of(matrix, [column]) for column in columns], []
        for role in sorted(set(roles)):
            rows = np.array([place for place, own in enumerate(roles) if own is role])
            source = f"once_{matrix}" if role is Role.ONCE else matrix
            stem = f"{matrix}:{start}:{role.name}"
            index = self._constant(f"{stem}:columns", np.array(columns)[rows])
            value = self._emit("Gather", [source, index], stem, role, axis=1)
            found.append(Field(name=value, role=role, rows=start + rows))
        return found

    def _side_by_side(self, fields: list[Field], layer: str) -> tuple[str, NDArray[np.int64]]:
        """The fields of one role as one matrix, and the rows of the weight that it meets."""
        groups: dict[tuple[str, str], list[tuple[Field, int, int]]] = {}
        rest = []
        for each in fields:
            single = self._single(each.name)
            if single is None:
                rest.append(each)
            else:
                groups.setdefault(single[:2], []).append((each, *single[2:]))
        role = fields[0].role
        values = [self._gathered(*where, members, f"{layer}:{role.name}") for where, members in groups.items()]
        values += [each.name for each in rest]
        rows = [member[0].rows for members in groups.values() for member in members] + [each.rows for each in rest]
        if len(values) > 1:
            values = [self._emit("Concat", values, f"{layer}:{role.name}:fields", role, axis=1)]
        return values[0], np.concatenate(rows)

    def _single(self, name: str) -> tuple[str, str, int, int] | None:
        """(fused table, matrix, column, start of its table) of a field that is the row of one id; else None."""
        node = self.made_by.get(name)
        if node is None or node.op_type != "Gather" or node.input[0] not in self.tables.places:
            return None
        source = self.made_by.get(node.input[1])
        if source is None or source.op_type != "Gather" or source.input[0] not in self.graph.inputs:
            return None
        columns, index = columns_read(self.graph, source), self.graph.array(source.input[1])
        if columns is None or index is None or index.ndim:
            return None
        table, start = self.tables.places[node.input[0]]
        return table, source.input[0], columns[0], start

    def _gathered(self, table: str, matrix: str, members: list[tuple[Field, int, int]], stem: str) -> str:
        """The rows of many ids, side by side, in one go."""
        role, stem = members[0][0].role, f"{stem}:{table}"
        places, width = np.array([column for _, column, _ in members]), sum(len(field.rows) for field, *_ in members)
        offsets = np.array([start for *_, start in members])
        if role is Role.EACH and matrix == "ids":
            self.vectors.append(Vectors(name=f"{stem}:flat", table=table, columns=places, starts=offsets, width=width))
            self.roles[f"{stem}:flat"] = role
            return f"{stem}:flat"
        source = f"once_{matrix}" if role is Role.ONCE else matrix
        columns = self._constant(f"{stem}:columns", places)
        starts = self._constant(f"{stem}:starts", offsets[np.newaxis])
        ids = self._emit("Gather", [source, columns], f"{stem}:ids", role, axis=1)
        placed = self._emit("Add", [ids, starts], f"{stem}:places", role)
        vectors = self._emit("Gather", [table, placed], f"{stem}:vectors", role, axis=0)
        flat = self._constant(f"flat:{width}", np.array([-1, width]))
        return self._emit("Reshape", [vectors, flat], f"{stem}:flat", role)

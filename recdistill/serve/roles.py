"""How often each value of a graph has to be computed: once a request, once an item, or for each candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from recdistill.serve.graph import Graph, attribute


class Role(IntEnum):
    """CONST: never. ONCE: its columns are equal for all candidates of a request. ITEM: they follow from the item."""

    CONST = 0
    ONCE = 1
    ITEM = 2
    EACH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The role of every column of the two matrices."""

    ids: tuple[Role, ...]
    dense: tuple[Role, ...]

    def of(self, matrix: str, columns: Sequence[int] | None = None) -> Role:
        """Of some columns together; None means all of them."""
        roles = self.ids if matrix == "ids" else self.dense
        return join(roles if columns is None else [roles[column] for column in columns])

    def with_items_as(self, other: Role) -> Roles:
        """The same, but what follows from the item is of another role."""
        ids, dense = ([other if role is Role.ITEM else role for role in roles] for roles in (self.ids, self.dense))
        return Roles(ids=tuple(ids), dense=tuple(dense))


def join(roles: Sequence[Role]) -> Role:
    """The role of what reads values of these roles.

    >>> join([Role.CONST, Role.ONCE]).name, join([Role.ONCE, Role.ITEM]).name
    ('ONCE', 'EACH')
    """
    different = {role for role in roles if role is not Role.CONST}
    return Role.EACH if len(different) > 1 else next(iter(different), Role.CONST)


def columns_read(graph: Graph, node: Any) -> list[int] | None:
    """Which columns a node takes from a matrix, where it says so in constants; None means that it may read all."""
    if node.op_type == "Gather" and attribute(node, "axis", 0) == 1:
        index = graph.array(node.input[1])
        return None if index is None else np.atleast_1d(index).tolist()
    if node.op_type == "Slice" and len(node.input) >= 4:
        starts, ends, axes = (graph.array(name) for name in node.input[1:4])
        steps = graph.array(node.input[4]) if len(node.input) > 4 else np.array([1])
        if starts is None or ends is None or axes is None or steps is None:
            return None
        if axes.tolist() == [1] and steps.tolist() == [1] and starts[0] >= 0 and ends[0] >= 0:
            return list(range(int(starts[0]), int(ends[0])))
    return None


def first_layers(graph: Graph) -> dict[str, tuple[Any, Any]]:
    """Concatenations of columns whose only reader is a layer of constant weight: their output -> both nodes."""
    found = {}
    for node in graph.nodes:
        users = graph.users(node.output[0])
        if node.op_type != "Concat" or attribute(node, "axis", 0) not in (1, -1) or len(users) != 1:
            continue
        user = users[0]
        weight = graph.array(user.input[1]) if user.op_type in ("Gemm", "MatMul") else None
        plain = attribute(user, "transA", 0) == 0 and attribute(user, "alpha", 1.0) == attribute(user, "beta", 1.0) == 1
        if weight is not None and weight.ndim == 2 and user.input[0] == node.output[0] and plain:
            found[node.output[0]] = (node, user)
    return found

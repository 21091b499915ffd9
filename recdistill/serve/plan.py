"""Sessions of a rewired graph: for which columns are given once, which follow from the item, which vary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from recdistill.serve.graph import Array, Graph, measured, read_graph, session
from recdistill.serve.items import Items
from recdistill.serve.roles import Role, Roles, columns_read
from recdistill.serve.split import ITEM, Cut, Splitter, Unsplittable, Vectors
from recdistill.serve.tables import Tables, fuse_tables
from recdistill.types import Layout

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
Run = Callable[[dict[str, Array]], Floats]
OfRows = Callable[[dict[str, Array]], dict[str, Array]]
MAX_DIFFERENCE = 1e-5  # of a rewired graph from the plain one, in logits, when it is made
MAX_KEPT = 2 << 30  # bytes of what is kept per item
_CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A session. ids and dense: the columns that are read of each candidate. kept: what it reads beside a request.

    vectors: rows of tables that it is given instead of ids, each with its table.
    """

    session: Any
    output: str
    ids: tuple[int, ...]
    dense: tuple[int, ...]
    inputs: frozenset[str]
    kept: dict[str, Array]
    vectors: tuple[tuple[Vectors, Array], ...] = ()

    def run(self, given: dict[str, Array]) -> Floats:
        """[C] logits. given: once_ids [1, K], once_dense [1, D], ids [C, K], dense [C, D], item [C]."""
        feeds = {name: value for name, value in given.items() if name in self.inputs}
        feeds.update(self.kept)
        feeds.update({each.name: each.take(table, given["ids"]) for each, table in self.vectors})
        found: Floats = self.session.run([self.output], feeds)[0]
        return found


class Planner:
    """All plans of one graph; its tables are held once, whatever the number of plans.

    plain: a session of the graph as it is. Raises BadInput for a graph that is none; its ids and numbers are as in the
    layout.
    """

    def __init__(self, path: Path, layout: Layout, plain: Any) -> None:
        graph = read_graph(path)
        self.layout, self.limits = layout, np.array(layout.limits(), dtype=np.int64)
        self.rows = _random_rows(self.limits, len(layout.dense))
        self.plain = plain
        self.wanted = self._plain(self.rows)
        names = [output for node in graph.nodes for output in node.output if output]
        values = measured(graph, names, {name: value[:3] for name, value in self.rows.items()})
        self.shapes = {name: value.shape for name, value in values.items()}
        self.shapes |= {name: value.shape for name, value in self.rows.items()}
        self.shapes |= {name: tuple(constant.dims) for name, constant in graph.constants.items()}
        self.tables: Tables = fuse_tables(graph)
        self.kept: dict[str, Array] = {}
        self.graph: Graph = graph

    def _plain(self, rows: dict[str, Array]) -> Floats:
        names = {value.name for value in self.plain.get_inputs()}
        found: Floats = self.plain.run(None, {name: value for name, value in rows.items() if name in names})[0]
        return found

    def plan(self, roles: Roles, items: Items | None = None) -> Plan:
        """A plan that scores as the plain graph does. items: where some columns are ITEM, always the same ones.

        Raises Unsplittable, which says why, where there is none.
        """
        cut = Splitter(self.graph, self.tables, roles, self.shapes).cut()
        kept = {} if items is None or not cut.frontier else self._of_items(cut, items)
        plan = self._build(cut, kept)
        self.check(plan.run, roles, items)
        return plan

    def halves(self, roles: Roles) -> tuple[OfRows, Plan]:
        """(from rows to what follows from their ITEM columns, a plan whose `kept` is to be that).

        Raises Unsplittable where nothing is worth keeping.
        """
        cut = Splitter(self.graph, self.tables, roles, self.shapes).cut()
        if not cut.frontier:
            raise Unsplittable("nothing is computed from these columns alone")
        first = self._frontier(cut, cut.frontier)
        return first, self._build(cut, first(self.rows))

    def as_it_is(self) -> Plan:
        """The plain graph, which reads all columns of every candidate."""
        return Plan(
            session=self.plain,
            output=self.graph.output,
            ids=tuple(range(len(self.limits))),
            dense=tuple(range(len(self.layout.dense))),
            inputs=frozenset(value.name for value in self.plain.get_inputs()),
            kept={},
        )

    def _of_items(self, cut: Cut, items: Items) -> dict[str, Array]:
        """The frontier for every item, computed a few thousand at a time, and once whatever the number of plans."""
        missing = [name for name in cut.frontier if f"items:{name}" not in self.kept]
        if missing:
            of_rows = self._frontier(cut, missing)
            size = sum(value.nbytes for value in of_rows(items.rows(0, _CHUNK)).values())
            size = size // min(_CHUNK, len(items)) * len(items)
            if size > MAX_KEPT:
                raise Unsplittable(f"what it would keep of the items takes {size:,} bytes, over {MAX_KEPT:,}")
            parts = [of_rows(items.rows(start, start + _CHUNK)) for start in range(0, len(items), _CHUNK)]
            self.kept |= {name: np.concatenate([found[name] for found in parts]) for name in parts[0]}
        return {f"items:{name}": self.kept[f"items:{name}"] for name in cut.frontier}

    def _frontier(self, cut: Cut, names: list[str]) -> OfRows:
        """From rows of the two matrices to ITEM values of them, named as a plan reads them."""
        run = session(self.graph, cut.nodes, names, self._inputs({}), cut.constants)
        inputs = {value.name for value in run.get_inputs()}
        tables = {name: value for name, value in self.tables.arrays.items() if name in inputs}

        def of_rows(rows: dict[str, Array]) -> dict[str, Array]:
            found = run.run(names, tables | {name: value for name, value in rows.items() if name in inputs})
            return {f"items:{name}": value for name, value in zip(names, found, strict=True)}

        return of_rows

    def _build(self, cut: Cut, kept: dict[str, Array]) -> Plan:
        gathers = [
            helper.make_node("Gather", [name, ITEM], [name.removeprefix("items:")], axis=0) for name in sorted(kept)
        ]
        nodes = gathers + [n for n in cut.nodes if not kept or cut.roles[n.output[0]] is not Role.ITEM]
        run = session(self.graph, nodes, [self.graph.output], self._inputs(kept, cut.vectors), cut.constants)
        inputs = frozenset(value.name for value in run.get_inputs())
        known = self.tables.arrays | kept
        return Plan(
            session=run,
            output=self.graph.output,
            ids=self._columns(cut, nodes, "ids"),
            dense=self._columns(cut, nodes, "dense"),
            inputs=inputs,
            kept={name: value for name, value in known.items() if name in inputs},
            vectors=tuple((each, self.tables.arrays[each.table]) for each in cut.vectors),
        )

    def _inputs(self, kept: dict[str, Array], vectors: Sequence[Vectors] = ()) -> dict[str, Any]:
        num_ids, num_dense = len(self.limits), len(self.layout.dense)
        shapes = {"ids": num_ids, "once_ids": num_ids, "dense": num_dense, "once_dense": num_dense}
        found = {
            name: helper.make_tensor_value_info(
                name, TensorProto.INT64 if name.endswith("ids") else TensorProto.FLOAT, [None, width]
            )
            for name, width in shapes.items()
        }
        found[ITEM] = helper.make_tensor_value_info(ITEM, TensorProto.INT64, [None])
        for name, value in {**self.tables.arrays, **kept}.items():
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            found[name] = helper.make_tensor_value_info(name, kind, [None, *value.shape[1:]])
        for each in vectors:
            found[each.name] = helper.make_tensor_value_info(each.name, TensorProto.FLOAT, [None, each.width])
        return found

    def _columns(self, cut: Cut, nodes: Sequence[Any], matrix: str) -> tuple[int, ...]:
        """The columns of a matrix that the nodes read of each candidate."""
        own = replace(self.graph, constants=cut.constants, arrays={})
        width = len(self.limits) if matrix == "ids" else len(self.layout.dense)
        found = {column for each in cut.vectors for column in each.columns.tolist() if matrix == "ids"}
        for node in nodes:
            if matrix in node.input:
                columns = columns_read(own, node)
                found |= set(range(width) if columns is None else columns)
        return tuple(sorted(found))

    def check(self, run: Run, roles: Roles, items: Items | None = None) -> None:
        """Raises Unsplittable where rewired and plain differ on random rows, for one candidate or many."""
        for num_rows in (len(self.rows["ids"]), 1, 2):
            rows = {name: value[:num_rows].copy() for name, value in self.rows.items()}
            item = np.arange(num_rows) % (1 if items is None else len(items))
            of_items = {} if items is None else items.rows(0, num_rows)
            for name, own in (("ids", roles.ids), ("dense", roles.dense)):
                for column, role in enumerate(own):
                    if role is Role.ONCE:
                        rows[name][:, column] = rows[name][0, column]
                    elif role is Role.ITEM:
                        rows[name][:, column] = of_items[name][item, column]
            given = {**rows, "once_ids": rows["ids"][:1], "once_dense": rows["dense"][:1], ITEM: item}
            try:
                difference = np.abs(run(given) - self._plain(rows)).max()
            except Exception as error:
                raise Unsplittable(f"rewired, it does not run: {str(error).splitlines()[0][:120]}") from None
            if not difference <= MAX_DIFFERENCE:
                raise Unsplittable(f"rewired, it differs by {difference:.1e}")


def _random_rows(limits: Ids, num_dense: int) -> dict[str, Array]:
    """Rows that touch every table's first and last row: where an id of the layout is none of the graph, they fail."""
    generator = np.random.default_rng(0)
    ids = generator.integers(0, limits, (9, len(limits)))
    ids[1], ids[2] = 0, limits - 1
    return {"ids": ids, "dense": generator.standard_normal((9, num_dense)).astype(np.float32)}

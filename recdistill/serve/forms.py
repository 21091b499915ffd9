"""How requests that give the same columns are scored: what is read where, worked out once for each such form."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.data.encoder import Encoder
from recdistill.problems import BadInput, guess, problem
from recdistill.serve.encode import DenseReader, IdReader, readers
from recdistill.serve.items import Items, Keyed, open_items, open_served
from recdistill.serve.lookup import ByValue, Together
from recdistill.serve.plan import Plan, Planner
from recdistill.serve.roles import Role, Roles, join
from recdistill.serve.runs import RunPlan, plan_runs, run_roles
from recdistill.serve.split import Unsplittable
from recdistill.serve.values import refused, type_of

_MOST_FORMS = 64  # that are remembered: clients choose them
Filled = tuple[tuple[str, Keyed], ...]
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Columns of the candidates that are looked up together. places: the columns of the ids matrix that they become."""

    names: tuple[str, ...]
    lookup: Together
    places: NDArray[np.int64]

    def read(self, values: Mapping[str, Any], ids: NDArray[np.int64]) -> None:
        """Fill the columns of the ids matrix."""
        found = self.lookup.many(self.names, [values[name] for name in self.names])
        if found.shape[1] != len(ids):
            raise refused(self.names[0], f"{len(ids)} values", str(found.shape[1]))
        ids[:, self.places] = found.T


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """with_items: whether candidates are known by their keys. filled: columns that a table of the bundle says by a key.

    repeated, borrowed: columns of the user and of the items that a feature of each candidate reads. once, each: what
    reads the user's columns and the candidates'; once_plain: of the user, (column of the ids, name, lookup) where that
    is all. repeated_ids, item_ids, ...: columns of the matrices that are copied from the user's row and, (column,
    column there), from the items.
    """

    plan: Plan
    with_items: bool
    filled_once: Filled
    filled_each: Filled
    repeated: tuple[str, ...]
    borrowed: tuple[str, ...]
    once_plain: tuple[tuple[int, str, Callable[[str, Any], int]], ...]
    once_ids: tuple[tuple[slice, IdReader], ...]
    once_dense: tuple[tuple[int, DenseReader], ...]
    together: Columns | None
    each_ids: tuple[IdReader, ...]
    each_dense: tuple[tuple[int, DenseReader], ...]
    repeated_ids: tuple[int, ...]
    repeated_dense: tuple[int, ...]
    item_ids: Pairs
    item_dense: Pairs

    @property
    def reads_each(self) -> bool:
        """Whether the graph reads anything of each candidate but which item it is."""
        return bool(self.plan.ids or self.plan.dense)

    def run(self, matrices: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """[C] logits."""
        return self.plan.run(matrices)


class Forms:
    """All forms of requests of one bundle. reasons: why some of them are not split."""

    def __init__(
        self,
        encoder: Encoder,
        request: Mapping[str, str],
        planner: Planner,
        items: pa.Table | None,
        item_key: str | None,
    ) -> None:
        self.encoder, self.planner = encoder, planner
        self.items: Items | None = open_items(encoder, items, item_key)
        self.limits = np.array(encoder.layout.limits(), dtype=np.uint64)
        self.request = {name: type_of(kind) for name, kind in request.items()}
        self.served = open_served(encoder, None if self.items is None else self.items.key)
        self.types = {name: table.table.schema.field(name).type for name, table in self.served.items()}
        if self.items is not None:
            self.types |= {field.name: field.type for field in self.items.known.table.schema}
        self.types |= self.request
        self.ids, self.dense = readers(encoder, self.types)
        self.reasons: set[str] = set()
        self._known: dict[tuple[frozenset[str], frozenset[str], bool], Form] = {}
        self._by_runs: dict[Roles, Plan | RunPlan] = {}
        self._lock = Lock()

    def form(self, user: frozenset[str], candidates: frozenset[str], with_items: bool) -> Form:
        """The form of requests with these columns. BadInput lists those that are missing and those that are unknown."""
        key = (user, candidates, with_items)
        found = self._known.get(key)
        if found is None:
            with self._lock:
                if len(self._known) >= _MOST_FORMS:
                    self._known.clear()
                found = self._known[key] = self._made(user, candidates, with_items)
        return found

    def by_runs(self, form: Form, matrices: Mapping[str, NDArray[Any]]) -> Plan | RunPlan:
        """The plan for whole rows that go on as these do: by runs where columns stay equal, else the form's own."""
        roles = run_roles(matrices["ids"], matrices["dense"])
        with self._lock:
            if roles not in self._by_runs:
                if len(self._by_runs) >= _MOST_FORMS:
                    self._by_runs.clear()
                try:
                    self._by_runs[roles] = plan_runs(self.planner, roles)
                except Unsplittable:
                    self._by_runs[roles] = form.plan
            return self._by_runs[roles]

    def warm(self, user: frozenset[str]) -> None:
        """Work out ahead the form of requests that give the items' keys alone, if such requests are complete."""
        with contextlib.suppress(BadInput):
            self.form(user, frozenset(), with_items=True)

    def _made(self, user: frozenset[str], candidates: frozenset[str], by_key: bool) -> Form:
        where = dict.fromkeys(user, Role.ONCE) | dict.fromkeys(candidates, Role.EACH)
        with_items = by_key
        if self.items is not None:
            with_items |= self.items.key in candidates and bool(self._lacking(where) & set(self.items.known.names))
        if with_items and self.items is not None:
            where = dict.fromkeys(self.items.known.names, Role.ITEM) | where
            where[self.items.key] = Role.ITEM
        filled = {name: table for name, table in self.served.items() if name not in where and table.key in where}
        where |= {name: _of_key(where[table.key]) for name, table in filled.items()}
        self._check(user, candidates, by_key, where)
        return self._form(where, filled, with_items)

    def _needed(self) -> set[str]:
        """The columns that features read."""
        return {name for reader in self.ids for name in reader.columns} | {n.name for n in self.dense.values()}

    def _lacking(self, where: Mapping[str, Role]) -> set[str]:
        had = {name for name, table in self.served.items() if table.key in where}
        return self._needed() - where.keys() - had

    def _check(self, user: frozenset[str], candidates: frozenset[str], by_key: bool, where: Mapping[str, Role]) -> None:
        known = sorted(self._needed() | {table.key for table in self.served.values()})
        known = sorted({*known, *self.request, *([] if self.items is None else self.items.known.names)})
        lines = []
        for name in sorted(self._lacking(where)):
            remedy = "send it with the user, or with every candidate"
            lines.append(problem(f"column {name}", wanted="a value", found="none", remedy=remedy))
        for name in sorted((user | candidates) - set(known)):
            remedy = guess(name, known) or f"known are {', '.join(known)}"
            lines.append(problem("request", wanted="known columns", found=repr(name)[:80], remedy=remedy))
        for name in sorted(user & candidates):
            lines.append(problem(f"column {name}", wanted="it once", found="user and candidates", remedy="drop one"))
        if by_key and self.items is None:
            remedy = "give `candidates`, or start the scorer with a table of items"
            lines.append(problem("items", wanted="a bundle that knows items by a key", found="none", remedy=remedy))
        if by_key and self.items is not None and self.items.key in candidates | user:
            found = f"`items` and column {self.items.key}"
            lines.append(problem("items", wanted="the keys once", found=found, remedy="drop one"))
        if not by_key and not candidates:
            remedy = "give `items` or `candidates`"
            lines.append(problem("request", wanted="candidates", found="none", remedy=remedy))
        if lines:
            raise BadInput(lines)

    def _form(self, where: Mapping[str, Role], filled: Mapping[str, Keyed], with_items: bool) -> Form:
        role_of = {reader: join([where[name] for name in reader.columns]) for reader in self.ids}
        number_role = {place: where[number.name] for place, number in self.dense.items()}
        ids = [Role.ONCE] * len(self.limits)
        for reader, role in role_of.items():
            ids[reader.feature.columns] = [role] * reader.feature.width
        dense = [number_role.get(place, Role.ONCE) for place in range(len(self.encoder.layout.dense))]
        plan = self._plan(Roles(ids=tuple(ids), dense=tuple(dense)))
        readers_each = [r for r, role in role_of.items() if role is Role.EACH and set(plan.ids) & set(_range(r))]
        numbers = [p for p, role in number_role.items() if role is Role.EACH and p in plan.dense]
        once = [r for r, role in role_of.items() if role is Role.ONCE]
        quick = [r for r in readers_each if isinstance(r.quick, ByValue) and not r.listed]
        each = [r for r in readers_each if r not in quick]
        read = {n for r in readers_each for n in r.columns} | {self.dense[p].name for p in numbers}
        keys = {filled[name].key for name in read & filled.keys()}
        item_places = {} if self.items is None else {c: n for n, c in enumerate(self.items.id_columns)}
        item_numbers = {} if self.items is None else {c: n for n, c in enumerate(self.items.numbers)}
        return Form(
            plan=plan,
            with_items=with_items,
            filled_once=tuple((n, table) for n, table in filled.items() if where[n] is Role.ONCE),
            filled_each=tuple((n, filled[n]) for n in sorted(read & filled.keys()) if where[n] is Role.EACH),
            repeated=tuple(n for n in sorted(read) if where[n] is Role.ONCE),
            borrowed=tuple(n for n in sorted(read | keys) if where[n] is Role.ITEM),
            once_plain=tuple((r.feature.start, r.name, r.quick.one) for r in once if r.quick and not r.listed),
            once_ids=tuple((r.feature.columns, r) for r in once if not r.quick or r.listed),
            once_dense=tuple((p, n) for p, n in self.dense.items() if number_role[p] is Role.ONCE),
            together=None if not quick else self._together(quick),
            each_ids=tuple(each),
            each_dense=tuple((p, self.dense[p]) for p in numbers),
            repeated_ids=tuple(c for c in plan.ids if ids[c] is Role.ONCE),
            repeated_dense=tuple(c for c in plan.dense if dense[c] is Role.ONCE),
            item_ids=tuple((c, item_places[c]) for c in plan.ids if ids[c] is Role.ITEM),
            item_dense=tuple((c, item_numbers[c]) for c in plan.dense if dense[c] is Role.ITEM),
        )

    def _together(self, quick: list[IdReader]) -> Columns:
        lookups = [reader.quick for reader in quick if isinstance(reader.quick, ByValue)]
        places = np.array([reader.feature.start for reader in quick])
        return Columns(names=tuple(reader.name for reader in quick), lookup=Together(lookups), places=places)

    def _plan(self, roles: Roles) -> Plan:
        """The best that there is: with what is kept per item, else split, else the graph as it is."""
        if self.items is not None and self._all_items(roles):
            try:
                return self.planner.plan(roles, self.items)
            except Unsplittable as reason:
                self.reasons.add(f"per item: {reason}")
        try:
            return self.planner.plan(roles.with_items_as(Role.EACH))
        except Unsplittable as reason:
            self.reasons.add(str(reason))
        return self.planner.as_it_is()

    def _all_items(self, roles: Roles) -> bool:
        """Whether all that follows from the item is the items'; for a part of it nothing is kept."""
        assert self.items is not None
        ids = {column for column, role in enumerate(roles.ids) if role is Role.ITEM}
        dense = {column for column, role in enumerate(roles.dense) if role is Role.ITEM}
        return ids == set(self.items.id_columns) and dense == set(self.items.numbers) and bool(ids or dense)


def _of_key(role: Role) -> Role:
    """The role of a column that a table says by a key; by a column of the items it is looked up for each candidate."""
    return Role.EACH if role is Role.ITEM else role


def _range(reader: IdReader) -> range:
    return range(reader.feature.start, reader.feature.start + reader.feature.width)

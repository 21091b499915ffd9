"""Rows of a user next to each other: what the columns that stay equal say is computed once for each run of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recdistill.serve.graph import Array
from recdistill.serve.plan import OfRows, Plan, Planner
from recdistill.serve.roles import Role, Roles
from recdistill.serve.split import ITEM

_MOST_BEGINS = 1 / 4  # of the rows begin a run, else there is little to gain,
_LEAST_COLUMNS = 1 / 8  # of all; what fewer say is found sooner than it is copied to each row of a run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """As a Plan, for rows of which many are equal to the one before in the columns `ids` and `dense`.

    first: what `kept` of the rest is for some rows, by these columns alone; rest: a plan of all others.
    """

    ids: NDArray[np.int64]
    dense: NDArray[np.int64]
    first: OfRows
    rest: Plan

    def run(self, given: dict[str, Array]) -> NDArray[np.float32]:
        """[C] logits of any rows, however long their runs. given: ids [C, K], dense [C, D]."""
        ids, dense = given["ids"], given["dense"]
        begins = np.ones(len(ids), dtype=np.bool_)
        begins[1:] = _changed(ids[:, self.ids], dense[:, self.dense]).any(axis=1)
        found = self.first({"ids": ids[begins], "dense": dense[begins]})
        plan = replace(self.rest, kept=self.rest.kept | found)
        return plan.run({**given, ITEM: np.cumsum(begins) - 1})


def plan_runs(planner: Planner, roles: Roles) -> RunPlan:
    """roles: ITEM for the columns that stay equal, EACH for the others. Raises Unsplittable, as Planner.plan."""
    first, rest = planner.halves(roles)
    ids, dense = (np.flatnonzero(np.array(own, int) == Role.ITEM) for own in (roles.ids, roles.dense))
    plan = RunPlan(ids=ids, dense=dense, first=first, rest=rest)
    planner.check(plan.run, roles.with_items_as(Role.EACH))  # every row a run
    planner.check(plan.run, roles.with_items_as(Role.ONCE))  # all rows one
    return plan


def run_roles(ids: Array, dense: Array) -> Roles:
    """ITEM for the columns that, taken together, change in a quarter of the rows at most; EACH for the others.

    Those that change least come first. EACH for all where less than an eighth of the columns would be ITEM.

    >>> [role.name for role in run_roles(np.array([[7, 1], [7, 2], [7, 3], [7, 4], [8, 5]]), np.zeros((5, 0))).ids]
    ['ITEM', 'EACH']
    """
    changed = _changed(ids, dense)
    order = np.argsort(changed.mean(axis=0), kind="stable")
    together = np.logical_or.accumulate(changed[:, order], axis=1).mean(axis=0) <= _MOST_BEGINS
    stays = set(order[together].tolist() if together.mean() >= _LEAST_COLUMNS else [])
    roles = [Role.ITEM if column in stays else Role.EACH for column in range(len(order))]
    return Roles(ids=tuple(roles[: ids.shape[1]]), dense=tuple(roles[ids.shape[1] :]))


def _changed(*matrices: Array) -> NDArray[np.bool_]:
    """[C - 1, columns of all]: where a row differs from the one before it."""
    return np.concatenate([matrix[1:] != matrix[:-1] for matrix in matrices], axis=1)

"""Whether a config and the columns of a log of positives fit sampling, before any row is read."""

from __future__ import annotations

from itertools import chain

import pyarrow as pa

from recdistill.config.run import Run
from recdistill.data.log.listing import Log
from recdistill.data.negatives.catalogue import POSITIVE
from recdistill.data.raw import ROLES
from recdistill.problems import BadInput, problem

LABEL = "sampled_label"
ADDED = pa.schema({LABEL: pa.int8(), "event": pa.int8(), POSITIVE: pa.int64(), "offset": pa.float32()})


def check_source(run: Run, log: Log) -> None:
    """BadInput with a line for every column or setting that sampling cannot work with."""
    data = run.data
    assert data.negatives is not None
    item, others = data.negatives.item, data.negatives.item_columns
    roles = {data.time: "time" if data.time_unit is None else "counted time", data.user: "id", item: "id"}
    if data.request.column not in (None, POSITIVE):
        roles[data.request.column] = "id"
    lines = list(chain.from_iterable(_unfit(log, name, roles.get(name)) for name in dict.fromkeys([*roles, *others])))
    if data.label.column != LABEL:
        wanted = f"{LABEL}, which sampling adds: 1 for a row of the log, 0 for a negative"
        remedy = f"write label: {{column: {LABEL}}}"
        lines.append(problem("data.label.column", wanted=wanted, found=data.label.column, remedy=remedy))
    fixed = {data.time, data.user, data.request.column, *log.constants}
    for name in fixed.intersection([item, *others]):
        where, remedy = f"data.negatives: column {name}", "name columns of the item"
        lines.append(problem(where, wanted="one that a negative may change", found="one of its request", remedy=remedy))
    for name in set(ADDED.names).intersection(log.types):
        where, remedy = f"{log.source}: column {name}", "write the log with another name for it"
        lines.append(problem(where, wanted="a name that sampling does not add", found="such a column", remedy=remedy))
    if lines:
        raise BadInput(sorted(lines))


def _unfit(log: Log, name: str, role: str | None) -> list[str]:
    """A line where a column is missing or of no use for the role; None is any role."""
    where = f"{log.source}: column {name}"
    if name not in log.types:
        found = f"only {', '.join(log.types)}"
        return [problem(where, wanted="such a column", found=found, remedy="mend the config or the log")]
    if role is None or ROLES[role][1](log.types[name]):
        return []
    wanted, _, remedy = ROLES[role]
    return [problem(where, wanted=wanted, found=str(log.types[name]), remedy=remedy)]

"""A student with its tables as codes of few bits; the sizes of tables; weights that may not ship."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch

from recdistill.config.run import Run
from recdistill.config.student import Precision
from recdistill.models.build import Ranker
from recdistill.models.fields import Tables
from recdistill.models.tables.make import BITS, size
from recdistill.models.tables.rows import Bits
from recdistill.problems import BadInput, problem


def table_bits(run: Run, tables: Tables) -> dict[str, Bits]:
    """Table -> bits that it ships with; float tables are left out."""
    chosen: dict[str, Precision] = {
        name: run.student.table_of(name).quantise or run.export.quantise for name in tables.names
    }
    return {name: BITS[precision] for name, precision in chosen.items() if precision in BITS}


def quantise(student: Ranker, bits: Mapping[str, Bits]) -> Ranker:
    """A copy with these tables as codes; the student itself where there are none."""
    if not bits:
        return student
    small = copy.deepcopy(student)
    small.tables.quantise(bits)
    return small.eval()


def sizes(student: Ranker) -> dict[str, dict[str, int]]:
    """Table -> {parameters, bytes}, and all the rest as `dense layers`."""
    found = {name: size(student.tables[name]) for name in student.tables.names}
    rest = [value for name, value in student.named_parameters() if not name.startswith("tables.")]
    numel = sum(value.numel() for value in rest)
    return {**found, "dense layers": {"parameters": numel, "bytes": 4 * numel}}


def refuse_not_finite(student: Ranker, title: str) -> None:
    """BadInput with a line for every table or layer that holds NaN or infinity, and its first such row."""
    known = {f"tables.parts.{part}.": name for name, part in student.tables.names.items()}
    lines = []
    for name, value in student.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            wrong = ~torch.isfinite(value.reshape(len(value) if value.ndim else 1, -1))
            row = int(wrong.any(dim=1).nonzero()[0])
            table = next((f"table {table}" for start, table in known.items() if name.startswith(start)), name)
            remedy = "lower student.learning_rate or embedding_learning_rate and train again"
            lines.append(
                problem(f"{title}: {table}, row {row}", wanted="finite weights", found="NaN or infinity", remedy=remedy)
            )
    if lines:
        raise BadInput(lines)

"""Tables of a student begun as its teacher's, projected on as many directions as they are wide."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recdistill.distil.gram import principal
from recdistill.models.fields import Tables
from recdistill.models.tables.make import one_row_each
from recdistill.problems import BadInput, problem


def project(table: Tensor, width: int) -> Tensor:
    """[V, E] -> [V, width]: the rows on their first principal directions, those of the mean left out.

    X = (table - mean) V_k with V_k the first right singular vectors: of all k-wide tables it is the one from which the
    teacher's can be put back with the least squared error (Eckart & Young 1936). A direction's sign is set so that its
    largest entry is positive. Where the teacher's is no wider, zeros fill the rest.

    >>> project(torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0]]), 1)
    tensor([[-2.],
            [ 0.],
            [ 2.]])
    """
    centred = table.double() - table.double().mean(dim=0)
    kept = principal(centred, width)
    kept = kept * kept.gather(0, kept.abs().argmax(dim=0, keepdim=True)).sign()
    found = centred @ kept
    return nn.functional.pad(found, (0, width - found.shape[1])).to(table.dtype)


def teacher_table(weights: Mapping[str, Tensor], name: str) -> Tensor:
    """[V, E] the teacher's table of this name. BadInput where it has none."""
    found = [value for key, value in weights.items() if f".{key}".endswith(f".{name}.weight") and ".embedding" in key]
    if len(found) != 1:
        known = sorted(key.split(".")[-2] for key in weights if ".embedding" in key)
        wanted = f"a table of the teacher named {name}"
        raise BadInput(
            problem("recipe.init", wanted=wanted, found=", ".join(known) or "none", remedy="use init: fresh")
        )
    return found[0]


def shared(table: Tensor, place: Tensor, num_rows: int) -> Tensor:
    """[V, E] -> [R, E]: the mean of the rows that are to share one, the closest to them in squares.

    place: [V] the row of each. A row that nobody reads is the mean of all.

    >>> shared(torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([0, 0, 2]), 3).tolist()
    [[2.0], [4.0], [8.0]]
    """
    total = torch.zeros(num_rows, table.shape[1], dtype=torch.float64).index_add_(0, place, table.double())
    readers = torch.bincount(place, minlength=num_rows).unsqueeze(1)
    return torch.where(readers > 0, total / readers.clamp_min(1), table.double().mean(dim=0)).to(table.dtype)


def begin_as_teacher(tables: Tables, weights: Mapping[str, Tensor]) -> None:
    """Overwrite every table of a fresh student: values that share a row begin at their mean.

    BadInput for a table that is composed, of mixed widths or that the teacher lacks; none is overwritten then.
    """
    found = {name: one_row_each(tables[name]) for name in tables.names}
    strange = [name for name, rows in found.items() if rows is None]
    if strange:
        wanted, remedy = "tables of one row a value", "make them plain or hashed, or use init: fresh"
        raise BadInput(problem("recipe.init", wanted=wanted, found=f"others: {', '.join(strange)}", remedy=remedy))
    taught = {name: teacher_table(weights, name) for name in tables.names}
    with torch.no_grad():
        for name, whole in taught.items():
            one = found[name]
            assert one is not None
            rows, place = one
            owned = shared(whole, place(torch.arange(len(whole))), rows.num_embeddings)
            rows.weight.copy_(project(owned, tables.widths[name]))

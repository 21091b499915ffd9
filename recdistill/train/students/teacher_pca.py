"""Tables of a student begun as its teacher's, projected on as many directions as they are wide."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recdistill.models.fields import Tables
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
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    kept = vectors.flip(1)[:, :width]
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


def begin_as_teacher(tables: Tables, weights: Mapping[str, Tensor]) -> None:
    """Overwrite every table of a fresh student. BadInput for one that is hashed, composed or of mixed widths."""
    strange = [name for name in tables.names if not isinstance(tables[name], nn.Embedding)]
    if strange:
        where, remedy = "recipe.init", "make them kind: plain, or use init: fresh"
        raise BadInput(problem(where, wanted="plain tables", found=f"others: {', '.join(strange)}", remedy=remedy))
    with torch.no_grad():
        for name in tables.names:
            table = tables[name]
            assert isinstance(table, nn.Embedding)
            table.weight.copy_(project(teacher_table(weights, name), tables.widths[name]))

"""A table as its settings say: kind, pruning, training for few bits; sizes of tables."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from recdistill.config.student import Precision, Table
from recdistill.models.tables.hashed import Hashed
from recdistill.models.tables.mixed_dimension import MixedDimension, cut, widths
from recdistill.models.tables.pruned import Pruned, compact, kept, places
from recdistill.models.tables.quotient_remainder import QuotientRemainder
from recdistill.models.tables.rows import AwareRows, Bits, float_rows
from recdistill.types import FIRST_KNOWN

BITS: dict[Precision, Bits] = {"int8": 8, "int4": 4}


def make_table(settings: Table, num_rows: int, width: int, counts: Tensor | None) -> nn.Module:
    """ids [...] -> [..., width]. counts: [num_rows] look-ups of each id, where the settings need them."""
    if settings.min_count == 1 and settings.keep is None:
        return _make(settings, num_rows, width, counts)
    assert counts is not None
    chosen = kept(counts, settings.min_count, settings.keep)
    inner = _make(settings, int(chosen.sum()), width, counts[chosen])
    return Pruned(places(chosen), inner)


def _make(settings: Table, num_rows: int, width: int, counts: Tensor | None) -> nn.Module:
    if settings.kind == "hashed" and settings.rows is not None and settings.rows < num_rows:
        return Hashed(_rows(settings, settings.rows, width), settings.rows)
    if settings.kind == "quotient_remainder" and num_rows > FIRST_KNOWN:
        remainders = min(settings.rows or math.ceil(math.sqrt(num_rows)), num_rows)
        quotients = math.ceil(num_rows / remainders)
        return QuotientRemainder(_rows(settings, quotients, width), _rows(settings, remainders, width), remainders)
    if settings.kind == "mixed_dimension":
        assert counts is not None
        return _mixed(settings, width, counts)
    return _rows(settings, num_rows, width)


def _mixed(settings: Table, width: int, counts: Tensor) -> nn.Module:
    order = torch.argsort(counts, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    starts = cut(counts[order], settings.blocks)
    wide = widths(counts[order], starts, width, settings.temperature)
    ends = [*starts[1:], len(order)]
    rows = [_rows(settings, end - start, w) for start, end, w in zip(starts, ends, wide, strict=True)]
    return MixedDimension(compact(rank), starts, rows, wide)


def _rows(settings: Table, num_rows: int, width: int) -> nn.Module:
    rows = float_rows(num_rows, width)
    return AwareRows(rows, BITS[settings.quantise]) if settings.aware and settings.quantise in BITS else rows


def one_row_each(table: nn.Module) -> tuple[nn.Embedding, Callable[[Tensor], Tensor]] | None:
    """(its rows, ids [...] -> the row [...] of each); None for a table that composes a value's vector of several."""
    match table:
        case Pruned():
            inner, outer = one_row_each(table.table), table.place
            if inner is None:
                return None
            rows, place = inner
            return rows, lambda ids: place(outer[ids].to(torch.int64))
        case Hashed():
            inner = one_row_each(table.rows)
            return None if inner is None else (inner[0], table.place)
        case AwareRows():
            return table.rows, lambda ids: ids
        case nn.Embedding():
            return table, lambda ids: ids
        case _:
            return None


def size(table: nn.Module) -> dict[str, int]:
    """Its numbers (or codes), and the bytes of these with all scales and places."""
    parts = [*table.named_parameters(), *table.named_buffers()]
    learned = [value for name, value in parts if name.rpartition(".")[2] not in ("rank", "place", "scale")]
    return {
        "parameters": sum(value.numel() * (2 if value.dtype == torch.uint8 else 1) for value in learned),
        "bytes": sum(value.numel() * value.element_size() for _, value in parts),
    }

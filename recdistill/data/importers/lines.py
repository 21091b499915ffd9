"""Delimited text as Arrow tables, block by block in bounded memory; every malformed line is told by its number."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.types as pt

from recdistill.data.importers.archive import Member
from recdistill.problems import BadInput, problem

BLOCK_BYTES = 4 << 20
LONGEST_LINE = 32 << 20
MAX_FAULTS = 20
_DROP = "mend or drop the line"
_STAND_IN = b"\x1f"  # for a delimiter of two characters, which the reader of csv does not know


@dataclass(slots=True)
class Faults:
    """The lines that are malformed. BadInput as soon as there are MAX_FAULTS of them, else at the end, by `end`."""

    problems: list[str] = field(default_factory=list)

    def add(self, where: str, line: int, *, wanted: str, found: str, remedy: str = _DROP) -> None:
        self.problems.append(problem(f"{where}: line {line}", wanted=wanted, found=found[:120], remedy=remedy))
        if len(self.problems) >= MAX_FAULTS:
            self.problems.append(f"only the first {MAX_FAULTS} problems are listed")
            self.end()

    def end(self) -> None:
        if self.problems:
            raise BadInput(self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a file is written.

    columns: the types of those that are read (pa.bool_ is 0 or 1); without a header, of all, in the file's order.
    required: columns without nulls; None is all. nulls: texts that stand for a null.
    """

    columns: Mapping[str, pa.DataType]
    required: frozenset[str] | None = None
    header: bool = True
    delimiter: str = ","
    quoted: bool = True
    encoding: str = "utf-8"
    nulls: tuple[str, ...] = ("",)

    def is_required(self, column: str) -> bool:
        return self.required is None or column in self.required


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows of a file, which stand on consecutive lines. first_line: of the first row, from 1. where: the file."""

    table: pa.Table
    first_line: int
    where: str


def read(member: Member, layout: Layout, faults: Faults) -> Iterator[Chunk]:
    """The rows of a file in order. A block with malformed lines is told to `faults` and left out."""
    with member.open() as stream:
        names, line = list(layout.columns), 1
        if layout.header:
            names, line = _header(stream.readline(1 << 20), layout, member.where), 2
        for block in blocks(stream, member.where):
            table = _fast(block, layout, names)
            if table is None:
                before = len(faults.problems)
                _diagnose(block, layout, names, member.where, line, faults)
                if len(faults.problems) == before:
                    table = _parse(block, layout, names)  # a stray quote that does no harm
            if table is not None:
                yield Chunk(table=table, first_line=line, where=member.where)
            line += num_lines(block)


def blocks(stream: BinaryIO, where: str) -> Iterator[bytes]:
    """Whole lines, a few megabytes at a time."""
    rest = b""
    while data := stream.read(BLOCK_BYTES):
        whole, newline, after = data.rpartition(b"\n")
        if newline:
            yield rest + whole + newline
            rest = after
        else:
            rest += data
        if len(rest) > LONGEST_LINE:
            found, remedy = "a longer one", "give the file as its publisher ships it"
            raise BadInput(problem(where, wanted=f"lines below {LONGEST_LINE:,} bytes", found=found, remedy=remedy))
    if rest:
        yield rest


def num_lines(block: bytes) -> int:
    """How many lines a block holds; the last one need not end.

    >>> num_lines(b"a\\nb\\n"), num_lines(b"a\\nb")
    (2, 2)
    """
    return block.count(b"\n") + (not block.endswith(b"\n"))


def count_lines(member: Member) -> int:
    """How many lines a file has: one pass over its bytes."""
    with member.open() as stream:
        return sum(num_lines(block) for block in blocks(stream, member.where))


def _header(line: bytes, layout: Layout, where: str) -> list[str]:
    text = line.decode("utf-8-sig", errors="replace").strip()
    names = [name.strip() for name in next(csv.reader([text], delimiter=layout.delimiter), [])]
    absent = [name for name in layout.columns if name not in names]
    if absent or len(set(names)) < len(names):
        wanted = f"a header that names {', '.join(layout.columns)} once each"
        remedy = "give the file as its publisher ships it"
        raise BadInput(problem(f"{where}: line 1", wanted=wanted, found=repr(text[:200]), remedy=remedy))
    return names


def _fast(block: bytes, layout: Layout, names: Sequence[str]) -> pa.Table | None:
    """The block as a table; None where a line may be malformed."""
    if layout.quoted and block.count(b'"') % 2:
        return None
    try:
        table = _parse(block, layout, names)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    nulls = any(table[name].null_count for name in layout.columns if layout.is_required(name))
    return None if nulls or _is_lax(block, table) or table.num_rows != num_lines(block) else table


def _is_lax(block: bytes, table: pa.Table) -> bool:
    """Whether the reader may have taken what is no number here: 0x1f for a whole one, nan or inf for another."""
    floats = [column for column in table.columns if pt.is_floating(column.type)]
    return b"0x" in block or b"0X" in block or not all(pc.all(pc.is_finite(c)).as_py() in (True, None) for c in floats)


def _parse(block: bytes, layout: Layout, names: Sequence[str]) -> pa.Table:
    delimiter = layout.delimiter
    if len(delimiter) > 1:
        if _STAND_IN in block:
            raise pa.ArrowInvalid("a control character")
        block, delimiter = block.replace(delimiter.encode(), _STAND_IN), _STAND_IN.decode()
    return pacsv.read_csv(
        pa.BufferReader(block),
        pacsv.ReadOptions(column_names=list(names), block_size=len(block) + 1, encoding=layout.encoding),
        pacsv.ParseOptions(delimiter=delimiter, quote_char='"' if layout.quoted else False, ignore_empty_lines=False),
        pacsv.ConvertOptions(
            column_types=dict(layout.columns),
            include_columns=list(layout.columns),
            null_values=list(layout.nulls),
            true_values=["1"],
            false_values=["0"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def _diagnose(block: bytes, layout: Layout, names: Sequence[str], where: str, first_line: int, faults: Faults) -> None:
    """Tell `faults` every malformed line of a block, slowly."""
    for line, raw in enumerate(block.removesuffix(b"\n").split(b"\n"), first_line):
        text = raw.removesuffix(b"\r")
        try:
            values = _fields(text.decode(layout.encoding), layout)
        except UnicodeDecodeError:
            faults.add(where, line, wanted=f"text in {layout.encoding}", found=repr(text))
            continue
        except csv.Error as error:
            faults.add(where, line, wanted=f"a readable line ({error})", found=repr(text))
            continue
        if len(values) != len(names):
            them = f"{len(names)} fields parted by {layout.delimiter!r}"
            faults.add(where, line, wanted=them, found=f"{len(values)} in {text.decode(layout.encoding)!r}")
            continue
        for name, value in zip(names, values, strict=True):
            if name in layout.columns and (wanted := _fault(value, name, layout)):
                faults.add(where, line, wanted=f"{name}: {wanted}", found=repr(value))


def _fields(text: str, layout: Layout) -> list[str]:
    if _STAND_IN.decode() in text and len(layout.delimiter) > 1:
        raise csv.Error("no control characters")
    if not layout.quoted:
        return text.split(layout.delimiter)
    return next(csv.reader([text], delimiter=layout.delimiter, strict=True), [""])


def _fault(value: str, name: str, layout: Layout) -> str | None:
    """What was wanted of a value, where it is not that."""
    kind, text = layout.columns[name], value.strip(" \t")
    if value in layout.nulls:
        return "a value" if layout.is_required(name) else None
    if pt.is_boolean(kind):
        return None if text in ("0", "1") else "0 or 1"
    if pt.is_integer(kind):
        limit = 2 ** (kind.bit_width - 1)
        whole = re.fullmatch(r"-?\d{1,19}", text) is not None and -limit <= int(text) < limit
        return None if whole else f"a whole number of {kind.bit_width} bits"
    if pt.is_floating(kind):
        return None if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) else "a number"
    return None

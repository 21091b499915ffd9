"""The contract of a log as a whole: its types, files, partitions and label rate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.types as pt

from recdistill.config.data import ColumnRule, Data, Partition
from recdistill.config.run import Run
from recdistill.data.contract.outside import fitting, is_list, is_text
from recdistill.data.log.listing import Log, LogFile
from recdistill.data.log.partitions import following, span
from recdistill.data.log.values import family
from recdistill.problems import guess, problem

LEAST_FOR_A_RATE = 100
_SHOWN = 5


def check_types(run: Run, log: Log) -> list[str]:
    """A line for every column rule that the log's types cannot satisfy, and for rules that want data.partition."""
    rules = run.data.contract.columns
    lines = [line for name, rule in rules.items() for line in _unfit(f"{log.source}: column {name}", name, rule, log)]
    return lines + _without_partition(run.data, log)


def _unfit(where: str, name: str, rule: ColumnRule, log: Log) -> list[str]:
    at = f"data.contract.columns.{name}"
    if name not in log.types:
        remedy = guess(name, list(log.types)) or f"drop {at}"
        found = f"only {', '.join(log.types)}"
        return [problem(where, wanted=f"such a column, for {at}", found=found, remedy=remedy)]
    kind = log.types[name]
    lines = []
    if rule.type is not None and rule.type != str(kind):
        lines.append(problem(where, wanted=f"type {rule.type}", found=str(kind), remedy=f"mend {at}.type or the log"))
    if (rule.min is not None or rule.max is not None) and not _is_number(kind):
        lines.append(problem(where, wanted="numbers, for min and max", found=str(kind), remedy=f"drop them from {at}"))
    if rule.max_length is not None and not (is_text(_plain(kind)) or is_list(kind)):
        wanted, remedy = "strings or lists, for max_length", f"drop it from {at}"
        lines.append(problem(where, wanted=wanted, found=str(kind), remedy=remedy))
    strange = [value for value in rule.allowed or () if not _fits(kind, value)]
    if strange:
        found = ", ".join(map(repr, strange[:_SHOWN]))
        lines.append(problem(where, wanted=f"allowed values of {kind}", found=found, remedy=f"mend {at}.allowed"))
    return lines


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pt.is_dictionary(kind) else kind


def _is_number(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    return family(kind) == "number" or pt.is_integer(kind) or pt.is_boolean(kind)


def _fits(kind: pa.DataType, value: object) -> bool:
    try:
        fitting(kind, value)
    except (ValueError, TypeError, OverflowError, ArithmeticError):
        return False
    return True


def _without_partition(data: Data, log: Log) -> list[str]:
    """Rules of partitions where there are none, and files whose path does not say which one they are of."""
    if data.partition is None:
        named = {"complete": data.contract.complete, "min_rows_per_partition": data.contract.min_rows_per_partition > 0}
        return [
            problem(
                f"data.contract.{n}", wanted="data.partition beside it", found="none", remedy="give it, or drop this"
            )
            for n, asked in named.items()
            if asked
        ]
    wanted, remedy = f"{data.partition.column}={data.partition.format} in the path", "mend data.partition or the path"
    lost = [file for file in log.files if span(data.partition, file.partition) is None]
    return [
        problem(
            str(file.path), wanted=wanted, found=file.partition.get(data.partition.column, "no such key"), remedy=remedy
        )
        for file in lost
    ]


def check_whole(run: Run, log: Log, file_rows: Sequence[int], file_positives: Sequence[float]) -> list[str]:
    """A line for every file, partition and rate that the contract forbids.

    file_rows, file_positives: per file of the log, rows that are left and how many of them are positive.
    """
    contract = run.data.contract
    lines = []
    for file, rows in zip(log.files, file_rows, strict=True):
        if rows < contract.min_rows:
            remedy = "restore the file, or lower data.contract.min_rows"
            lines.append(_too_few(str(file.path), contract.min_rows, rows, remedy))
    groups = _groups(run.data.partition, log.files, file_rows, file_positives)
    if run.data.partition is not None:
        for name, (rows, _) in groups.items():
            if rows < contract.min_rows_per_partition:
                remedy = "restore the partition, or lower data.contract.min_rows_per_partition"
                lines.append(_too_few(f"{log.source}: {name}", contract.min_rows_per_partition, rows, remedy))
        if contract.complete:
            lines += _gaps(log, run.data.partition)
    return lines + _rates(run, log, {"all rows": (sum(file_rows), sum(file_positives)), **groups})


def _too_few(where: str, least: int, rows: int, remedy: str) -> str:
    return problem(where, wanted=f"at least {least:,} good rows", found=f"{rows:,}", remedy=remedy)


def _groups(
    partition: Partition | None, files: Sequence[LogFile], rows: Sequence[int], positives: Sequence[float]
) -> dict[str, tuple[int, float]]:
    """KEY=VALUE -> rows and positives of a partition, in the order of the log."""
    found: dict[str, tuple[int, float]] = {}
    if partition is None:
        return found
    for file, num, positive in zip(files, rows, positives, strict=True):
        name = f"{partition.column}={file.partition.get(partition.column, '')}"
        before = found.get(name, (0, 0.0))
        found[name] = before[0] + num, before[1] + positive
    return found


def missing(partition: Partition, files: Sequence[LogFile]) -> list[datetime]:
    """Where the partitions begin that are not there between the first and the last."""
    begins = sorted({bounds[0] for file in files if (bounds := span(partition, file.partition)) is not None})
    there, at, gaps = set(begins), begins[0] if begins else None, []
    while at is not None and at < begins[-1]:
        if at not in there:
            gaps.append(at)
        at = following(partition, at)
    return gaps


def _gaps(log: Log, partition: Partition) -> list[str]:
    gaps = missing(partition, log.files)
    if not gaps:
        return []
    shown = ", ".join(f"{partition.column}={at.strftime(partition.format)}" for at in gaps[:_SHOWN])
    found = f"none for {shown}{f' and {len(gaps) - _SHOWN:,} more' if len(gaps) > _SHOWN else ''}"
    remedy = "restore what is missing, or set data.contract.complete: false"
    return [problem(log.source, wanted=f"every {partition.length} from first to last", found=found, remedy=remedy)]


def _rates(run: Run, log: Log, groups: dict[str, tuple[int, float]]) -> list[str]:
    band = run.data.contract.label_rate
    if band is None:
        return []
    return [
        problem(
            f"{log.source}: {name}: column {run.data.label.column}",
            wanted=f"a share of positives from {band[0]:g} to {band[1]:g}",
            found=f"{positives / rows:.4g} of {rows:,} rows",
            remedy="mend the labels, or data.contract.label_rate",
        )
        for name, (rows, positives) in groups.items()
        if rows >= (1 if name == "all rows" else LEAST_FOR_A_RATE) and not band[0] <= positives / rows <= band[1]
    ]

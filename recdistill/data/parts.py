"""A log's files as parts: checked and encoded once, reused while file, plan and rules stay the same."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recdistill.code import code_digest
from recdistill.config.run import Run
from recdistill.data.ahead import ahead
from recdistill.data.codes import Coded, Coder
from recdistill.data.contract.quarantine import Quarantine
from recdistill.data.contract.repeats import out_of_order
from recdistill.data.contract.rules import Broken, broken_rows, ruled_columns
from recdistill.data.log.listing import Log, LogFile
from recdistill.data.log.read import tables
from recdistill.data.plan import Plan, plan_of
from recdistill.data.raw import RawRows, raw_rows, wanted_columns
from recdistill.data.segment import Part, write_segment
from recdistill.files import damage, digest, manifest, whole_folder

ROWS_PER_SEGMENT = 524_288
QUARANTINE = "quarantine.parquet"
_ROW_RULES = ("columns", "unique", "earliest", "ordered", "not_after")  # of the contract: the rest judges the whole


class Coders:
    """A coder for every source of a plan, at work in threads: Arrow and pandas hash outside the interpreter."""

    def __init__(self, plan: Plan, threads: int) -> None:
        self.coders = [Coder(source.width) for source in plan.coded.values()]
        self.threads, self.pool = threads, ThreadPoolExecutor(threads)

    def __call__(self, plan: Plan, rows: pa.Table) -> list[Coded]:
        """Of every source, in the order of the plan."""
        work = zip(self.coders, plan.coded.values(), strict=True)
        return list(self.pool.map(lambda pair: pair[0](pair[1].values(rows)), work))

    def __enter__(self) -> Coders:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()


def read_parts(run: Run, log: Log, root: Path) -> list[Part]:
    """Every file of the log as a part under `root`; those that are there already, whole and undamaged, are reused."""
    plan, settings = plan_of(run, log), part_settings(run, log)
    parts = []
    with Coders(plan, num_threads(run)) as coders:
        for file in log.files:
            key = digest([settings, file.sha256, file.size, file.num_rows, file.partition])
            folder = root / f"part-{key[:16]}"
            if manifest(folder) is None or damage(folder):
                _read_part(run, log, file, plan, folder, key, coders)
            about = manifest(folder)
            assert about is not None
            num_segments, num_bad = about["segments"], about["num_bad"]
            parts.append(Part(folder=folder, file=file, num_segments=num_segments, num_bad=num_bad))
    _forget(root, {part.folder for part in parts})
    return parts


def num_threads(run: Run) -> int:
    """The run's own number, else one per core that this process may use."""
    return run.threads or len(os.sched_getaffinity(0))


def part_settings(run: Run, log: Log) -> str:
    """A digest of all that decides what a part holds beside its file: what is kept and checked of a row, and the code.

    Runs that agree on it share their parts.
    """
    data, dense = run.section("data")["data"], run.features.dense
    names = ("time", "time_unit", "user", "label", "tasks", "request", "partition", "negatives")
    rules = {name: data["contract"][name] for name in _ROW_RULES}
    log1p = sorted(spec.column for spec in dense if spec.transform == "log1p")
    checked = [rules, log1p, sorted(spec.column for spec in dense)]
    return digest([{n: data[n] for n in names}, plan_of(run, log).to_json(), checked, code_digest(Path(__file__))])


def _forget(root: Path, kept: set[Path]) -> None:
    """Remove parts of files that the log no longer has, or that were read by another plan."""
    for path in root.glob("part-*"):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _read_part(run: Run, log: Log, file: LogFile, plan: Plan, folder: Path, key: str, coders: Coders) -> None:
    about: dict[str, Any] = {"key": key, "segments": 0, "num_bad": 0}
    columns = list(dict.fromkeys([*(name for name, _ in wanted_columns(run)), *plan.columns, *ruled_columns(run)]))
    with whole_folder(folder, about) as out:
        quarantine = Quarantine(out / QUARANTINE, limit=1.0)
        latest: int | None = None
        segments = tables(log, columns, max_rows=ROWS_PER_SEGMENT, files=[file])
        for _, first, table in ahead(segments, coders.threads):
            rows, latest = _checked(run, file, first, table, quarantine, latest)
            write_segment(out, about["segments"], plan, rows, coders(plan, rows.columns))
            about["segments"] += 1
        about["num_bad"] = quarantine.finish(file.num_rows)


def _checked(
    run: Run, file: LogFile, first: int, table: pa.Table, quarantine: Quarantine, latest: int | None
) -> tuple[RawRows, int | None]:
    """The rows that obey the contract, numbered as in the file, and the latest time of the file so far."""
    number = np.arange(first, first + table.num_rows)
    broken = broken_rows(run, table, file)
    if broken:
        keep = quarantine.add(file, first, table, broken)
        table, number = table.filter(pa.array(keep)), number[keep]
    rows = raw_rows(run.data, table, number)
    if not run.data.contract.ordered or not len(rows.time):
        return rows, latest
    late = out_of_order(rows.time, latest)
    latest = max(int(rows.time.max()), -(2**63) if latest is None else latest)
    if not len(late):
        return rows, latest
    quarantine.add_rows(file, rows.row_id[late], rows.columns.take(pa.array(late)), _order_broken(run, len(late)))
    return rows.take(np.delete(np.arange(len(rows.time)), late)), latest


def _order_broken(run: Run, num: int) -> list[Broken]:
    wanted, remedy = "a time not before that of an earlier row", "sort the file, or drop data.contract.ordered"
    return [Broken(column=run.data.time, wanted=wanted, remedy=remedy, rows=np.arange(num))]

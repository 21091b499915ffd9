"""What is in a log, column by column, in one pass and bounded memory: nulls, values, quantiles, lengths."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.config.run import Run
from recdistill.data.columns import column
from recdistill.data.inspect.column import Column, ColumnProfile
from recdistill.data.log.listing import Log, LogFile
from recdistill.data.log.read import tables
from recdistill.data.raw import label_of

ROWS = 262_144
SAMPLE = 100_000  # rows that quantiles are taken from, about


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A whole log. file_rows, file_positives: per file, as `check_whole` takes them."""

    columns: list[ColumnProfile]
    file_rows: list[int]
    file_positives: list[float]

    def to_json(self) -> dict[str, Any]:
        return {one.name: one.to_json() for one in self.columns}


def profile(run: Run, log: Log) -> Profile:
    """Every column of a log. Quantiles are of rows chosen by a hash of their number: the same ones in every run."""
    profiler = Profiler(run, log)
    with profiler:
        for file, first, table in tables(log, list(log.types), max_rows=ROWS):
            profiler.add(file, first, table)
    return profiler.finish()


class Profiler:
    """Takes a log's tables in order; a context, for the threads that share its columns."""

    def __init__(self, run: Run, log: Log) -> None:
        units = {run.data.time: run.data.time_unit}
        self._data = run.data
        self._share = min(1.0, SAMPLE / max(1, log.num_rows))
        self._columns = [Column(name, kind, units.get(name)) for name, kind in log.types.items()]
        self._rows = {file.name: 0 for file in log.files}
        self._positives = {file.name: 0.0 for file in log.files}
        self._pool = ThreadPoolExecutor(run.threads or len(os.sched_getaffinity(0)))

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def add(self, file: LogFile, first_row: int, table: pa.Table) -> None:
        """Count some rows. first_row: that of the table within its file."""
        number = np.arange(table.num_rows, dtype=np.uint64) + np.uint64(file.first_row + first_row + 1)
        chosen = np.flatnonzero(pd.util.hash_array(number) / 2.0**64 < self._share)
        list(self._pool.map(lambda one: one.add(column(table, one.name), chosen), self._columns))
        label = label_of(self._data.label, column(table, self._data.label.column))
        self._rows[file.name] += table.num_rows
        self._positives[file.name] += float((label == 1).sum())

    def finish(self) -> Profile:
        found = [one.finish() for one in self._columns]
        return Profile(columns=found, file_rows=[*self._rows.values()], file_positives=[*self._positives.values()])
